package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/render"
)

func builtIn(t testing.TB, name string) string {
	t.Helper()
	all, err := render.BuiltIn(engines.Table.Find("nginx"))
	if err != nil {
		t.Fatal(err)
	}
	return all[name]
}

// template is one of the machine's owner.
func (b *box) template(name, text string) {
	b.Helper()
	dir := filepath.Join(b.agent.settings.Templates, b.agent.settings.Engine)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	put(b.T, filepath.Join(dir, name), text)
}

func TestTemplatesOfTheOwner(t *testing.T) {
	b := newBox(t)
	at := public(t)
	web := b.web("web", "one", at)
	b.send(wants(b.node(), web))
	const name = "service.conf.tmpl"
	plain := builtIn(t, name)

	b.template(name, plain+"# mine\n")
	if st := b.look(); !st.Outdated || st.Templates != "" {
		t.Errorf("new templates: %+v", st)
	}
	if strings.Contains(b.text(web), "# mine") {
		t.Error("they are in force without a delivery")
	}
	if out := b.send(wants(b.node(), web)); !out.Reloaded || len(out.Refused) > 0 || !strings.HasSuffix(b.text(web), "# mine\n") {
		t.Errorf("%+v\n%s", out, b.text(web))
	}

	for what, c := range map[string]struct{ text, words string }{
		"does not parse":            {"{{if}}", "missing value for if"},
		"fails on a sample":         {plain + "{{.Nope}}", "can't evaluate field Nope"},
		"says something else":       {plain + "server { listen 198.51.100.1:22; }\n", "is not what"},
		"is refused by the daemon":  {plain + "lissen;\n", `what they make of Service default/web: unknown directive "lissen"`},
		"fails on what is real":     {plain + `{{if eq .ID.Name "web"}}{{index nil 1}}{{end}}`, "what they make of Service default/web: "},
		"is refused for its shares": {plain + "limit_conn_zone $remote_addr zone=a:1;\n", "what they make of Service default/web: "},
	} {
		t.Run(what, func(t *testing.T) {
			b.template(name, c.text)
			for round := range 3 {
				out := b.send(wants(b.node(), changed(web, idle(time.Duration(round+1)*time.Minute))))
				if len(out.Refused) > 0 || !strings.HasSuffix(b.text(web), "# mine\n") {
					t.Errorf("%+v\n%s", out, b.text(web))
				}
				if st := b.look(); !strings.Contains(st.Templates, c.words) || !strings.Contains(st.Templates, "the last good ones are in force") || strings.Contains(st.Templates, b.unit.dir) {
					t.Errorf("told: %q", st.Templates)
				}
				b.says(at, "one")
				b.take(b.newAgent(""))
			}
		})
	}

	b.template(name, plain+"# better\n")
	b.send(wants(b.node(), web))
	if st := b.look(); st.Templates != "" || !strings.HasSuffix(b.text(web), "# better\n") {
		t.Errorf("%q\n%s", st.Templates, b.text(web))
	}
	if err := os.RemoveAll(b.agent.settings.Templates); err != nil {
		t.Fatal(err)
	}
	b.send(wants(b.node(), web))
	if st := b.look(); st.Templates != "" || strings.Contains(b.text(web), "# better\n") {
		t.Errorf("%q\n%s", st.Templates, b.text(web))
	}
	b.says(at, "one")
}

// A main file that the daemon refuses is nobody's fault but the templates'.
func TestTemplateOfTheMainFile(t *testing.T) {
	b := newBox(t)
	at := public(t)
	web := b.web("web", "one", at)
	b.template("main.conf.tmpl", builtIn(t, "main.conf.tmpl")+"lissen;\n")
	out := b.send(wants(b.node(), web))
	b.carriesNow(out, "web")
	if st := b.look(); !strings.Contains(st.Templates, `"lissen"`) || !strings.Contains(st.Templates, "the built-in ones are in force") {
		t.Errorf("told: %q", st.Templates)
	}
	b.says(at, "one")
}

// A Service on which templates fail that were good is made by the built-in ones, and
// that is told for as long as it is so.
func TestTemplateThatFailsOnANewService(t *testing.T) {
	b := newBox(t)
	b.template("service.conf.tmpl", builtIn(t, "service.conf.tmpl")+`{{if eq .ID.Name "odd"}}{{index nil 1}}{{end}}# mine`+"\n")
	web, odd := b.web("web", "one", public(t)), b.web("odd", "odd", public(t))
	b.send(wants(b.node(), web))
	if st := b.look(); st.Templates != "" {
		t.Errorf("told: %q", st.Templates)
	}
	out := b.send(wants(b.node(), web, odd))
	b.carriesNow(out, "odd", "web")
	for i := range 2 {
		if st := b.look(); !strings.Contains(st.Templates, "default.odd.uid-odd.conf: service.conf.tmpl:") || !strings.Contains(b.text(web), "# mine") || strings.Contains(b.text(odd), "# mine") {
			t.Errorf("told: %q", st.Templates)
		}
		b.take(b.newAgent(""))
		b.send(wants(b.node(), changed(web, idle(time.Duration(i+1)*time.Minute)), odd)) // its file is taken over
	}
	b.send(wants(b.node(), web))
	if st := b.look(); st.Templates != "" {
		t.Errorf("told: %q", st.Templates)
	}
}

// A Service that the daemon refuses whatever the templates does not keep new ones from
// being used.
func TestABadServiceDoesNotHoldUpTemplates(t *testing.T) {
	b := newBox(t)
	const name = "service.conf.tmpl"
	spoils := builtIn(t, name) + `{{if eq .ID.Name "bad"}}lissen;{{end}}`
	web, bad := b.web("web", "one", public(t)), b.web("bad", "bad", public(t))
	b.template(name, spoils)
	b.send(wants(b.node(), web))
	out := b.send(wants(b.node(), web, bad))
	b.one(out.Refused, lb.RefusedByEngine, "lissen")
	b.carriesNow(out, "web")
	b.template(name, spoils+"# new\n")
	out = b.send(wants(b.node(), web, bad))
	b.one(out.Refused, lb.RefusedByEngine, "lissen")
	b.carriesNow(out, "web")
	if st := b.look(); st.Templates != "" || !strings.HasSuffix(b.text(web), "# new\n") {
		t.Errorf("told: %q", st.Templates)
	}
	// Also one that comes together with them.
	worse := b.web("bad", "worse", public(t))
	worse.ID.UID = "another"
	b.template(name, spoils+"# newer\n")
	out, err := b.agent.Apply(t.Context(), b.delivery(encoded(t, wants(b.node(), web, worse))))
	if err != nil || !out.Outdated || strings.HasSuffix(b.text(web), "# newer\n") {
		t.Errorf("%+v, %v", out, err)
	}
	b.one(out.Refused, lb.RefusedByEngine, "lissen")
	out = b.send(wants(b.node(), web, worse)) // now it is known
	b.one(out.Refused, lb.RefusedByEngine, "lissen")
	if st := b.look(); st.Templates != "" || !strings.HasSuffix(b.text(web), "# newer\n") {
		t.Errorf("told: %q", st.Templates)
	}
}

// Whoever can write the account's files must not say how traffic is carried.
func TestTemplatesThatAreNotRoots(t *testing.T) {
	b := newBox(t)
	web := b.web("web", "one", public(t))
	const name = "service.conf.tmpl"
	b.template(name, builtIn(t, name)+"# mine\n")
	dir := filepath.Join(b.agent.settings.Templates, "nginx")
	path := filepath.Join(dir, name)
	for what, c := range map[string]struct {
		spoil, mend func() error
		words       string
	}{
		"another's file":   {func() error { return os.Chown(path, 1, 0) }, func() error { return os.Chown(path, 0, 0) }, "must be root's"},
		"another's folder": {func() error { return os.Chown(dir, 1, 0) }, func() error { return os.Chown(dir, 0, 0) }, "must be root's"},
		"writable file":    {func() error { return os.Chmod(path, 0o666) }, func() error { return os.Chmod(path, 0o644) }, "must be root's"},
		"writable folder":  {func() error { return os.Chmod(dir, 0o775) }, func() error { return os.Chmod(dir, 0o755) }, "must be root's"},
		"a link":           {func() error { return os.Symlink("/etc/passwd", dir+"/a.tmpl") }, func() error { return os.Remove(dir + "/a.tmpl") }, "want files"},
		"too much":         {func() error { return os.WriteFile(dir+"/a.tmpl", make([]byte, 2<<20), 0o644) }, func() error { return os.Remove(dir + "/a.tmpl") }, "at most 1048576 bytes"},
		"a name of no use": {func() error { return os.WriteFile(dir+"/a.tmpl", nil, 0o644) }, func() error { return os.Remove(dir + "/a.tmpl") }, "there is no such template"},
	} {
		if err := c.spoil(); err != nil {
			t.Fatal(err)
		}
		b.send(wants(b.node(), web))
		if st := b.look(); !strings.Contains(st.Templates, c.words) || strings.Contains(b.text(web), "# mine") {
			t.Errorf("%s: told %q", what, st.Templates)
		}
		if err := c.mend(); err != nil {
			t.Fatal(err)
		}
	}
	b.send(wants(b.node(), web))
	if st := b.look(); st.Templates != "" || !strings.Contains(b.text(web), "# mine") {
		t.Errorf("told %q", st.Templates)
	}
}
