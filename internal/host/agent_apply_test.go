package host

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/wait"
)

// Nothing is made, written or loaded for what has not changed.
func TestOnlyWhatChangesIsMade(t *testing.T) {
	b := newBox(t)
	at := public(t)
	web, same, local := b.web("web", "one", at), b.web("same", "same", public(t)), b.web("local", "local", public(t))
	local.IPv4.Targets = lb.Targets{Nodes: []lb.Target{{Node: "n1"}}}
	b.send(wants(b.node(), web, same, local))
	files := func() map[string]os.FileInfo {
		all := map[string]os.FileInfo{}
		for _, s := range []*lb.Service{web, same, local} {
			all[s.ID.Name] = stat(t, b.file(s))
		}
		return all
	}
	n2 := lb.Node{Name: "n2", IPv4: netip.MustParseAddr("198.51.100.131")}
	for _, step := range []struct {
		what    string
		cfg     *lb.Config
		changed []string
		reload  bool
	}{
		{"one Service", wants(b.node(), changed(web, idle(time.Minute)), same, local), []string{"web"}, true},
		{"a node more", &lb.Config{Nodes: []lb.Node{b.node(), n2}, Services: []*lb.Service{local, same, changed(web, idle(time.Minute))}}, []string{"same", "web"}, true},
		{"what is not of its files", &lb.Config{Nodes: []lb.Node{b.node(), n2}, Services: []*lb.Service{local, same, changed(web, func(s *lb.Service) {
			idle(time.Minute)(s)
			s.IPv6.Clients.Everybody = false
		})}}, nil, false},
	} {
		before := files()
		out := b.send(step.cfg)
		var got []string
		for name, info := range files() {
			if !os.SameFile(info, before[name]) {
				got = append(got, name)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, step.changed) || out.Reloaded != step.reload || out.Live.Digest() != out.Wanted.Digest() {
			t.Errorf("%s: written %v, want %v; reloaded %t", step.what, got, step.changed, out.Reloaded)
		}
	}
	// A node that nobody uses is live with what is there.
	b.send(wants(b.node(), local))
	out := b.send(&lb.Config{Nodes: []lb.Node{b.node(), n2}, Services: []*lb.Service{local}})
	if out.Reloaded || out.Live.Sums()[lb.NodeKey("n2")] == (lb.Sum{}) {
		t.Errorf("%+v", out)
	}
}

// A host.yaml that admits something else makes what is live outdated; a delivery, also
// an empty one, makes it anew.
func TestOtherSettingsMakeItOutdated(t *testing.T) {
	b := newBox(t)
	at := public(t)
	cfg := wants(b.node(), b.web("web", "one", at))
	before := b.send(cfg)
	b.more = "admit: {ports: [\"1024-65535\"]}\n"
	b.take(b.newAgent(""))
	if st := b.look(); !st.Outdated || st.Renderer == before.Renderer || !st.Proved {
		t.Errorf("%+v", st)
	}
	if out := b.send(cfg); out.Outdated || out.Reloaded || out.Generation != before.Generation {
		t.Errorf("%+v", out)
	}
	b.more = "admit: {ports: [\"22\"]}\n"
	b.take(b.newAgent(""))
	out := b.send(cfg)
	r := b.one(out.Refused, lb.RefusedNotAdmitted, "admit.ports")
	if r.Listener.Port != at.Port() {
		t.Errorf("%+v", r)
	}
	b.carriesNow(out)
	b.says(at, "")
	b.more = "admit: {ports: [\"22\"], held: [{address: 0.0.0.0, port: 2222, protocol: TCP}]}\n"
	was := b.look().Renderer
	b.take(b.newAgent(""))
	if st := b.look(); !st.Outdated || st.Renderer == was || Alike(st.Renderer) != Alike(was) {
		t.Errorf("%+v, before %s", st, was)
	}
}

// What one Service may have is each machine's own.
func TestOwnersShareForEachService(t *testing.T) {
	b := newBox(t)
	web := b.web("web", "one", public(t))
	before := b.send(wants(b.node(), web))
	b.more = "connectionsPerService: 7\n"
	b.take(b.newAgent(""))
	if st := b.look(); !st.Outdated || Alike(st.Renderer) != Alike(before.Renderer) {
		t.Errorf("%+v, before %s", st, before.Renderer)
	}
	if out := b.send(wants(b.node(), web)); out.Outdated || !out.Reloaded || !strings.Contains(b.text(web), ".share 7;\n") {
		t.Errorf("%+v:\n%s", out, b.text(web))
	}
}

// Render shows what Apply would do, and does nothing.
func TestRenderChangesNothing(t *testing.T) {
	b := newBox(t)
	at := public(t)
	web := b.web("web", "one", at)
	before := b.send(wants(b.node()))
	cert := certificateOf(t, "web.example")
	cfg := wants(b.node(), changed(web, func(s *lb.Service) { s.Frontends[0].Settings.Certificate = cert.Name() }), changed(b.web("bad", "x", public(t)), sendsProxyV2))
	cfg.Certificates = []*lb.Certificate{cert}
	d := b.delivery(encoded(t, cfg))
	r, err := b.agent.Render(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, f := range r.Files {
		paths = append(paths, f.Path)
		if private := strings.Contains(f.Path, "/certs/"); private != (f.Data == nil) {
			t.Errorf("%s: shows %d bytes", f.Path, len(f.Data))
		}
	}
	if want := []string{"nginx/" + engine.CertificatePath(cert.Name()), "nginx/main.conf", "nginx/" + engine.Path(web.ID)}; !slices.Equal(paths, want) {
		t.Errorf("files %v, want %v", paths, want)
	}
	b.one(r.Refused, lb.RefusedByEngine, "PROXY")
	b.proved(before)
	if got := b.look().Epoch; got.Seq != b.seq-1 {
		t.Errorf("epoch %s", got)
	}
	most := maxRendered
	maxRendered = 100
	_, err = b.agent.Render(t.Context(), d)
	if maxRendered = most; err == nil || !strings.Contains(err.Error(), "too many to show") {
		t.Errorf("more than is shown: %v", err)
	}
	out, err := b.agent.Apply(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Files {
		data, err := os.ReadFile(filepath.Join(b.unit.dir, engine.LiveLink, strings.TrimPrefix(f.Path, "nginx/")))
		if err != nil || f.Data != nil && string(data) != string(f.Data) {
			t.Errorf("%s is not what is live, %v", f.Path, err)
		}
	}
	b.carriesNow(out, "web")
}

// A node more is told to HAProxy while it runs.
func TestHAProxy_ANodeMoreNeedsNoReload(t *testing.T) {
	b := newHAProxyBox(t)
	at := public(t)
	web := b.web("web", "one", at)
	n2 := lb.Node{Name: "n2", IPv4: netip.MustParseAddr("198.51.100.131")}
	says(t, netip.AddrPortFrom(n2.IPv4, web.Frontends[0].NodePort), "two")
	if out := b.send(wants(b.node(), web)); !out.Reloaded {
		t.Errorf("%+v", out)
	}
	b.says(at, "one")
	out := b.send(&lb.Config{Nodes: []lb.Node{b.node(), n2}, Services: []*lb.Service{web}})
	if out.Reloaded || out.Live.Digest() != out.Wanted.Digest() {
		t.Errorf("%+v", out)
	}
	wait.True(b, "both answer", func() bool { return heardAt(at) == "one two" })
	if out := b.send(wants(lb.Node{Name: "n1", IPv4: n2.IPv4}, web)); out.Reloaded {
		t.Logf("a node that is not who it was takes a reload")
	}
	wait.True(b, "the other answers", func() bool { return heardAt(at) == "two" })
}
