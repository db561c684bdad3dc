package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/wait"
)

// systemctl is what the page needs of it, on a machine without systemd.
const systemctl = `#!/bin/sh -e
case "$*" in
"reload nginx") nginx -s reload ;;
"restart haproxy")
	pid=$(cat /run/haproxy.pid)
	kill "$pid"
	while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
	EXTRAOPTS=
	. /etc/default/haproxy
	haproxy -W -D -p /run/haproxy.pid -f /etc/haproxy/haproxy.cfg $EXTRAOPTS || [ $? = 2 ] ;; # it has no listener
"reload keepalived") kill -HUP "$(cat /run/keepalived.pid)" ;;
"disable --now external-lb-agent"*)
	pkill -f '^/bin/sh /run/external-lb-agent.sh' || true
	pkill -u external-lb || true
	while pgrep -u external-lb >/dev/null; do sleep 0.1; done ;;
*) exit 1 ;;
esac
`

// carriedByFile is what a host is told to carry that no controller knows.
const carriedByFile = `
apiVersion: external-lb.dev/v1alpha1
kind: Balancer
metadata: {name: edge}
spec: {engine: %s, hosts: [{name: cleaned, local: {}}]}
---
apiVersion: external-lb.dev/v1alpha1
kind: AddressPool
metadata: {name: public}
spec: {balancer: edge, addresses: [203.0.113.77]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, loadBalancerClass: external-lb.dev/edge, ports: [{port: 80, nodePort: 30080}]}
---
apiVersion: v1
kind: Node
metadata: {name: node1}
status: {addresses: [{type: InternalIP, address: 192.0.2.99}]}
`

// What docs/howto.md says of a host from which everything is taken: its daemon goes on
// without what was delivered, and nothing of external-lb is left.
func TestUninstall_TheHostIsCleaned(t *testing.T) {
	recorded(t)
	must(t, env.AddHost(t.Context(), "cleaned"))
	must(t, env.InstallHost(t.Context(), "cleaned"))
	h := mustHost(t, "cleaned")
	t.Cleanup(func() { must(t, h.PowerOff(context.Background())) })
	must(t, h.WriteFile(t.Context(), "/root/web.yaml", fmt.Appendf(nil, carriedByFile, engine.name)))
	must(t, h.WriteFile(t.Context(), "/usr/local/sbin/systemctl", []byte(systemctl)))
	shell := func(script string) string {
		t.Helper()
		out, err := h.Shell(t.Context(), "set -e\n"+script)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return out
	}
	// 203.0.113.77:80, as the kernel prints it for those who listen and for IPVS.
	carries := func() bool {
		return strings.Contains(shell("grep -ihE '4D7100CB:0050|CB00714D:0050' /proc/net/tcp /proc/net/ip_vs || true"), ":0050")
	}
	shell("external-lb host apply -f /root/web.yaml")
	if !carries() {
		t.Fatal("it does not carry what it is told")
	}
	daemon := daemonGoesOn[engine.name]
	script := "set -x; chmod +x /usr/local/sbin/systemctl; umount --lazy /usr/local/bin/external-lb || true # the test cluster's own\n"
	for _, begins := range []string{"nobody delivers to it:", daemon.begins, "with any of them:"} {
		script += commandsBehind(t, begins)
	}
	shell(script)
	wait.True(t, "it carries nothing", func() bool { return !carries() })
	if left := shell("find /etc /var/lib /usr/local -name '*external-lb*'; grep external-lb /etc/passwd || true"); left != "" {
		t.Errorf("it leaves\n%s", left)
	}
	shell(daemon.check)
}

// daemonGoesOn has the words before the commands for a daemon, and what holds behind them.
var daemonGoesOn = map[v1alpha1.Engine]struct{ begins, check string }{
	v1alpha1.EngineNginx:   {"With nginx", "nginx -t 2>&1; pgrep -x nginx"},
	v1alpha1.EngineHAProxy: {"With HAProxy", "haproxy -c -f /etc/haproxy/haproxy.cfg 2>&1 || [ $? = 2 ]"},
	v1alpha1.EngineLVS:     {"With LVS", "keepalived -t 2>&1; pgrep -x keepalived; ! nft list table inet external_lb 2>/dev/null"},
}

// commandsBehind are the first commands behind some words on the page about the removal.
func commandsBehind(t *testing.T, words string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "howto.md"))
	must(t, err)
	_, part, _ := strings.Cut(string(text), "\n### What becomes of the hosts\n")
	_, part, _ = strings.Cut(part, words)
	m := regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindStringSubmatch(part)
	if m == nil {
		t.Fatalf("there are no commands behind %q", words)
	}
	return m[1]
}
