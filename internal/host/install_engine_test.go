package host

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/admit"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
)

// A host gets another engine as its Balancer's status says: what the old daemon reads ends, and one line of
// host.yaml changes. All else in there stays, and the new daemon carries what the old one did.
func TestInstall_AnotherEngineKeepsWhatItsOwnerAdmits(t *testing.T) {
	onBareMachine(t, func(t *testing.T) {
		run(t, "sh", "-ec", "ip addr add 198.51.100.1/32 dev lo; ip route add local 198.51.100.0/24 dev lo")
		startDaemon(t)
		mine := admit.Rules{Ports: []admit.PortRange{{First: 1024, Last: 65535}}}
		install(t, InstallOptions{AuthorizedKeys: []string{aKey}, Admit: mine})
		b := &box{T: t}
		load := func() Settings {
			s, err := LoadSettings(SettingsPath, &engines.Table)
			if err != nil {
				t.Fatal(err)
			}
			b.take(agentOf(t, s))
			return s
		}
		before, at := load(), public(t)
		cfg := wants(b.node(), b.web("web", "one", at))
		b.send(cfg)
		b.says(at, "one")

		// As docs/howto.md has it, of nginx.
		run(t, "rm", "/etc/nginx/modules-enabled/99-external-lb.conf", "/etc/nginx/conf.d/external-lb.conf", "/etc/nginx/external-lb")
		run(t, "nginx", "-s", "reload")
		was, err := os.ReadFile(SettingsPath)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Install(t.Context(), InstallOptions{Engine: "haproxy"}, &engines.Table); err == nil || !strings.Contains(err.Error(), "end what nginx reads, write `engine: haproxy` there") {
			t.Errorf("before it is in %s: %v", SettingsPath, err)
		}
		put(t, SettingsPath, strings.Replace(string(was), "engine: nginx\n", "engine: haproxy\n", 1))
		install(t, InstallOptions{})
		run(t, "sh", "-ec", `. /etc/default/haproxy; mkdir -p /run/haproxy
			haproxy -W -D -p /run/haproxy.pid -f /etc/haproxy/haproxy.cfg $EXTRAOPTS >/dev/null 2>&1 </dev/null`)
		if result := install(t, InstallOptions{})["haproxy"]; result != engine.StepPresent {
			t.Errorf("HAProxy is %s", result)
		}
		after := load()
		if diff := cmp.Diff(before.Admit, after.Admit); diff != "" || len(after.Admit.Ports) == 0 {
			t.Errorf("what is admitted: %s", diff)
		}
		if st := b.look(); st.Engine != "haproxy" || st.Wanted.Len() == 0 {
			t.Errorf("the host says %+v", st)
		}
		if out := b.send(cfg); len(out.Refused) > 0 {
			t.Errorf("it refuses %+v", out.Refused)
		}
		b.says(at, "one")
	})
}
