package render_test

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/engine/haproxy"
	"github.com/external-lb/external-lb/internal/engine/lvs"
	"github.com/external-lb/external-lb/internal/engine/nginx"
	"github.com/external-lb/external-lb/internal/render"
)

func builtIn(t testing.TB) map[string]string {
	t.Helper()
	all, err := render.BuiltIn(engineOf(t))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The built-in templates are custom templates that change nothing.
func TestBuiltInTemplatesReplaceThemselves(t *testing.T) {
	onAllEngines(t, func(t onEngine) {
		for name, cfg := range goldenConfigs(t) {
			if !carried(t.engine, cfg) {
				continue
			}
			set, problems := renderWith(t, customized(t, builtIn(t)), cfg)
			if len(problems) > 0 {
				t.Error(problems)
			}
			if d := cmp.Diff(contents(mustRender(t, cfg)), contents(set)); d != "" {
				t.Errorf("%s: not the same (-built in +custom):\n%s", name, d)
			}
		}
	})
}

// There is no place in the built-in templates that no sample comes to.
func TestSamplesReachEveryBranch(t *testing.T) {
	action := regexp.MustCompile(`(?s)\{\{.*?\}\}`)
	onAllEngines(t, func(t onEngine) {
		for name, text := range builtIn(t) {
			for _, at := range action.FindAllStringIndex(text, -1) {
				if strings.Contains(text[at[0]:at[1]], "/*") {
					continue
				}
				// What follows the action fails, if any sample comes there.
				broken := text[:at[1]] + "{{index nil 1}}" + text[at[1]:]
				if _, err := newRenderer(t).With(map[string]string{name: broken}); err == nil {
					t.Errorf("%s: no sample comes past %q at byte %d", name, text[at[0]:at[1]], at[0])
				}
			}
		}
	})
}

// The page about templates names every field that they can use.
func TestEveryFieldIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/templates.md")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	onAllEngines(t, func(t onEngine) {
		view, err := t.engine.View(service(t, "web", tcp("192.0.2.1:80", "10.0.0.1:30080")))
		if err != nil {
			t.Fatal(err)
		}
		printable(reflect.TypeOf(view.Data), names)
		if main := t.engine.Main(nil); main != nil {
			printable(reflect.TypeOf(main), names)
		}
		for name := range builtIn(t) {
			if !strings.Contains(string(page), "`"+name+"`") {
				t.Errorf("docs/reference/templates.md lacks %s", name)
			}
		}
	})
	for name := range names {
		if !regexp.MustCompile("`[^`]*\\." + name + "\\b").Match(page) {
			t.Errorf("docs/reference/templates.md lacks .%s", name)
		}
	}
	if len(names) < 40 {
		t.Errorf("only %d fields were found", len(names))
	}
}

// printable collects the names of what templates can print of a type of an engine's.
func printable(of reflect.Type, names map[string]bool) {
	for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
		of = of.Elem()
	}
	if of.Kind() != reflect.Struct || !strings.Contains(of.PkgPath(), "/internal/engine/") {
		return
	}
	foreign := map[string]bool{} // methods of what is embedded and not the engine's
	for i := range of.NumField() {
		f := of.Field(i)
		if f.Anonymous && !strings.Contains(f.Type.PkgPath(), "/internal/engine/") {
			for j := range f.Type.NumMethod() {
				foreign[f.Type.Method(j).Name] = true
			}
		}
		if f.IsExported() && !f.Anonymous {
			names[f.Name] = true
		}
		printable(f.Type, names)
	}
	for i := range of.NumMethod() {
		m := of.Method(i)
		if foreign[m.Name] {
			continue
		}
		names[m.Name] = true
		for j := range m.Type.NumOut() {
			printable(m.Type.Out(j), names)
		}
	}
}

// A custom template shows in every file that it makes.
func TestCustomTemplateIsUsed(t *testing.T) {
	onAllEngines(t, func(t onEngine) {
		cfg := config(service(t, "web", tcp("192.0.2.1:80", "10.0.0.1:30080")))
		text := builtIn(t)["service.conf.tmpl"]
		r := customized(t, map[string]string{"service.conf.tmpl": text + "# for {{.ID.Name}}"})
		set, problems := renderWith(t, r, cfg)
		if f, _ := set.Get(engine.Path(cfg.Services[0].ID)); len(problems) > 0 || !strings.HasSuffix(string(f.Data), "\n# for web\n") {
			t.Errorf("not made by the custom template: %v\n%s", problems, f.Data)
		}
		none, err := r.With(nil)
		if err != nil {
			t.Fatal(err)
		}
		if after, _ := renderWith(t, none, cfg); after.Digest() != mustRender(t, cfg).Digest() {
			t.Error("a Renderer without custom templates is not the one before")
		}
		if same := newRenderer(t); none.Sum() != same.Sum() || r.Sum() == same.Sum() {
			t.Error("the sum does not tell templates apart")
		}
	})
}

// customized is a Renderer with templates of an owner's.
func customized(t testing.TB, custom map[string]string) *render.Renderer {
	t.Helper()
	r, err := newRenderer(t).With(custom)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTemplatesThatCannotBeUsed(t *testing.T) {
	replace := func(t onEngine, name, old, new string) map[string]string {
		text := builtIn(t)[name]
		if !strings.Contains(text, old) {
			t.Fatalf("%s has no %q", name, old)
		}
		return map[string]string{name: strings.ReplaceAll(text, old, new)}
	}
	drop := func(name, old string) func(onEngine) map[string]string {
		return func(t onEngine) map[string]string { return replace(t, name, old, "") }
	}
	put := func(name, text string) func(onEngine) map[string]string {
		return func(onEngine) map[string]string { return map[string]string{name: text} }
	}
	every, nginx, haproxy, lvs := engines.Table.Engines, []*engine.Engine{nginx.Engine}, []*engine.Engine{haproxy.Engine}, []*engine.Engine{lvs.Engine}
	for name, c := range map[string]struct {
		engines []*engine.Engine
		custom  func(onEngine) map[string]string
		want    string // part of the message
	}{
		"unknown name":          {every, put("servce.conf.tmpl", ""), "servce.conf.tmpl: there is no such template to replace, only "},
		"does not parse":        {every, put("service.conf.tmpl", "a\n{{if}}\n"), "service.conf.tmpl:2: missing value for if"},
		"unknown function":      {every, put("service.conf.tmpl", "{{upper .ID}}"), `service.conf.tmpl:1: function "upper" not defined`},
		"unknown field":         {every, put("service.conf.tmpl", "\n\n{{.Nope}}"), "service.conf.tmpl:3: <.Nope>: can't evaluate field Nope"},
		"unknown part":          {every, put("service.conf.tmpl", `{{template "nope" .}}`), `template "nope" not defined`},
		"fails where it is odd": {every, put("service.conf.tmpl", "{{(index (index .Frontends 0).Backends 0)}}"), "service.conf.tmpl:1: "},
		"calls itself":          {every, put("service.conf.tmpl", `{{template "service.conf.tmpl" .}}`), "exceeded maximum template depth"},
		"prints without end":    {every, put("service.conf.tmpl", "{{range 1000000000}}aaaaaaaaaaaaaaaa{{end}}"), "prints without end"},
		"long words":            {every, put("service.conf.tmpl", "{{"+strings.Repeat("a", 5000)+"}}"), `service.conf.tmpl:1: function "aaaa`},
		"prints nothing":        {every, put("service.conf.tmpl", ""), "is missing"},
		"defines another one":   {every, put("service.conf.tmpl", `{{define "main.conf.tmpl"}}{{end}}`), "defines main.conf.tmpl"},

		"nginx: no listener":         {nginx, drop("server.conf.tmpl", "listen {{.Listen}}"), `"listen 192.0.2.1:8000" is missing`},
		"nginx: listens in a remark": {nginx, func(t onEngine) map[string]string { return replace(t, "server.conf.tmpl", "listen", "# listen") }, `"listen 192.0.2.1:8000" is missing`},
		"nginx: TCP for UDP":         {nginx, drop("server.conf.tmpl", " udp"), `udp" is missing`},
		"nginx: listens elsewhere":   {nginx, put("main.conf.tmpl", "server { listen 192.0.2.9:22; return hi; }"), `"listen 192.0.2.9:22" is not what`},
		"nginx: a node is dropped":   {nginx, drop("upstream.conf.tmpl", "server {{.}}{{$parameters}};"), `"server 10.0.0.1:30080" is missing`},
		"nginx: open to all":         {nginx, drop("server.conf.tmpl", "deny all;"), `"deny all" is missing`},
		"nginx: open to some": {nginx, func(t onEngine) map[string]string {
			return replace(t, "server.conf.tmpl", "deny", "allow 10.0.0.0/8; deny")
		}, `"allow 10.0.0.0/8" is not what`},
		"nginx: carries nothing": {nginx, drop("server.conf.tmpl", "proxy_pass {{.Name}};"), `"proxy_pass" is missing`},

		"nginx: TLS in clear":        {nginx, drop("server.conf.tmpl", "{{if .Certificate}} ssl{{end}}"), ` ssl" is missing`},
		"nginx: another certificate": {nginx, func(t onEngine) map[string]string { return replace(t, "tls.conf.tmpl", "external-lb/{{", "other/{{") }, `"ssl_certificate external-lb/certs/`},

		"HAProxy: TLS in clear":      {haproxy, put("tls.conf.tmpl", ""), ` ssl crt `},
		"HAProxy: no listener":       {haproxy, drop("listen.conf.tmpl", "bind {{.Listen}}"), `"bind 192.0.2.1:8000" is missing`},
		"HAProxy: a node is dropped": {haproxy, drop("listen.conf.tmpl", "server {{.Name}}"), `"server node-1 10.0.0.1:30080" is missing`},
		"HAProxy: open to all":       {haproxy, drop("listen.conf.tmpl", "tcp-request connection reject{{if .Sources}} unless sources{{end}}"), `reject unless sources" is missing`},
		"HAProxy: open to some": {haproxy, func(t onEngine) map[string]string {
			return replace(t, "listen.conf.tmpl", "bind", "tcp-request connection accept if { src 10.0.0.0/8 }\n    bind")
		}, `is not what the Service asks for`},
		"HAProxy: no checks":        {haproxy, put("main.conf.tmpl", "defaults external-lb\n"), `"backend external-lb.nodes.`},
		"HAProxy: owner's defaults": {haproxy, drop("main.conf.tmpl", "defaults external-lb"), `"defaults external-lb" is missing`},

		"LVS: a node is dropped": {lvs, drop("service.conf.tmpl", "real_server"), `"real_server 10.0.0.1 30080 {" is missing`},
	} {
		on(t, c.engines, func(t onEngine) {
			t.Run(name, func(t onEngine) {
				r := newRenderer(t)
				_, err := r.With(c.custom(t))
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("want %q, got: %v", c.want, err)
				}
				if err != nil && len(err.Error()) > 3000 {
					t.Errorf("%d bytes of message", len(err.Error()))
				}
				if _, ok := errors.AsType[*render.TemplateError](err); err != nil && !ok {
					t.Errorf("not a TemplateError: %v", err)
				}
				if after, _ := renderWith(t, r, config()); after.Digest() != mustRender(t, config()).Digest() {
					t.Errorf("templates that cannot be used changed something: %v", contents(after))
				}
			})
		})
	}
}

// A Service on which custom templates fail, though no sample is like it, is
// carried by the built-in ones, and its neighbours by the custom ones.
func TestTemplateThatFailsOnOneService(t *testing.T) {
	onAllEngines(t, func(t onEngine) {
		text := builtIn(t)["service.conf.tmpl"]
		r := customized(t, map[string]string{"service.conf.tmpl": "# custom\n" + `{{if eq .ID.Name "odd"}}{{index nil 1}}{{end}}` + `{{if ne .ID.Name "mute"}}` + text + "{{end}}"})
		odd, mute, web := service(t, "odd", tcp("192.0.2.1:80", "10.0.0.1:30080")), service(t, "mute", tcp("192.0.2.2:80", "10.0.0.1:30080")), service(t, "web", tcp("192.0.2.3:80"))
		set, problems := renderWith(t, r, config(mute, odd, web))
		told := fmt.Sprint(problems)
		if len(problems) != 2 || !strings.Contains(told, engine.Path(odd.ID)+": service.conf.tmpl:2: ") || !strings.Contains(told, engine.Path(mute.ID)+": ") {
			t.Errorf("want both told, got: %v", problems)
		}
		for _, s := range []*engine.Service{odd, mute, web} {
			f, ok := set.Get(engine.Path(s.ID))
			if custom := strings.HasPrefix(string(f.Data), "# custom"); !ok || custom != (s == web) {
				t.Errorf("%s: in the set %t, made by custom templates %t", s.ID, ok, custom)
			}
		}
		set, _ = renderWith(t, r, config(mute, odd))
		if d := cmp.Diff(contents(mustRender(t, config(mute, odd))), contents(set)); d != "" {
			t.Errorf("not as the built-in templates make it:\n%s", d)
		}
	})
}
