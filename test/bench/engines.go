package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// engine is what is measured, and what is done by hand to the software on its host.
type engine struct {
	class string   // of its Services
	group string   // of its kinds
	only  []string // suites; nil: all
	scales

	daemon  string // the name of its processes
	version []string
	// tune gives it room for so many listeners, as the documentation asks of a host's administrator.
	tune func(listeners int) string
	// floor checks and reloads it, and prints how many seconds the check took, and all of it until the new workers run.
	floor   string
	floorIs string
	// change makes a Balancer fit for so many Services, as the documentation asks of its owner.
	change func(*v1alpha1.Balancer)
	// backend is how many bytes a node of a Service takes in each configuration that the daemon holds.
	backend int
}

// has reports whether a suite is measured.
func (e engine) has(suite string) bool { return e.only == nil || slices.Contains(e.only, suite) }

const (
	class          = "external-lb.dev/edge"
	checkAndReload = "its check and a reload of the same files by hand"
)

// withHosts are the suites in which the engine matters.
var withHosts = []string{"life", "start", "one", "hosts", "load", "failover"}

var engines = map[string]engine{
	"nginx": {
		class: class, group: v1alpha1.GroupVersion.Group, scales: proxies,
		daemon: "nginx", version: []string{"nginx", "-v"}, floorIs: checkAndReload, backend: 1600,
		tune: func(listeners int) string {
			return fmt.Sprintf(`
sed -i -E 's/worker_connections [0-9]+/worker_connections %d/' /etc/nginx/nginx.conf
nginx -s stop; while pgrep -x nginx >/dev/null; do :; done
ulimit -n $(ulimit -H -n); nginx`, max(16_384, 4*listeners))
		},
		floor: `
workers() { pgrep -f 'nginx: worker process$' | sort; }
old=$(workers)
begin=$(date +%s.%N)
nginx -q -t 2>/dev/null
checked=$(date +%s.%N)
nginx -s reload
while now=$(workers); [ -z "$now" ] || [ "$(printf '%s\n' $old | grep -cxF "$now")" != 0 ]; do :; done
end=$(date +%s.%N)
echo "$end $checked $begin" | awk '{print $2-$3, $1-$3}'`,
	},
	"haproxy": {
		class: class, group: v1alpha1.GroupVersion.Group, scales: proxies, only: withHosts,
		daemon: "haproxy", version: []string{"haproxy", "-v"}, floorIs: checkAndReload, backend: 6400,
		tune: func(int) string {
			return `
while pkill -TERM -x haproxy; do sleep 0.1; done
ulimit -n $(ulimit -H -n); . /etc/default/haproxy
haproxy -W -D -p /run/haproxy.pid -f /etc/haproxy/haproxy.cfg $EXTRAOPTS >/dev/null 2>&1`
		},
		// The master reads and binds all before it starts a worker.
		floor: `
master=$(cat /run/haproxy.pid); . /etc/default/haproxy
newest() { pgrep -n -P $master; }
old=$(newest)
begin=$(date +%s.%N)
haproxy -q -c -f /etc/haproxy/haproxy.cfg $EXTRAOPTS
checked=$(date +%s.%N)
kill -USR2 $master
while [ "$(newest)" = "$old" ]; do :; done
end=$(date +%s.%N)
echo "$end $checked $begin" | awk '{print $2-$3, $1-$3}'`,
	},
	"lvs": {
		class: class, group: v1alpha1.GroupVersion.Group, scales: machines, only: withHosts,
		daemon: "keepalived", version: []string{"keepalived", "--version"},
		floorIs: "its check of the same files by hand (when a reload has ended, keepalived does not say), in User-Mode Linux; " +
			"spec.nodes.maxPerService is 3",
		floor: `
begin=$(date +%s.%N)
keepalived -t
end=$(date +%s.%N)
echo "$end $begin" | awk '{print $1-$2, $1-$2}'`,
		change: func(b *v1alpha1.Balancer) {
			b.Spec.Nodes.MaxPerService = 3
			b.Spec.Defaults.HealthCheck = &v1alpha1.HealthCheck{Interval: "30s"}
		},
	},
	"metallb": {class: "metallb", group: "metallb.io", scales: proxies, only: []string{"life"}},
}

// versions of what is measured, and of what it is measured with.
func (b *bench) versions(ctx context.Context) (map[string]string, error) {
	out := map[string]string{}
	if b.engine.version == nil {
		v, err := metallbModule(ctx, "{{.Version}}")
		out["MetalLB"] = v
		return out, err
	}
	// Some say it on stderr.
	said, err := exec.CommandContext(ctx, b.engine.version[0], b.engine.version[1:]...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(b.engine.version, " "), err, said)
	}
	out[b.engine.daemon] = firstVersion(string(said))
	return out, nil
}

// firstVersion is the first word with a digit in what a program says of itself.
func firstVersion(said string) string {
	for _, word := range strings.FieldsFunc(said, func(r rune) bool { return strings.ContainsRune(" \n\t/(),", r) }) {
		if word = strings.TrimPrefix(word, "v"); word != "" && word[0] >= '0' && word[0] <= '9' {
			return word
		}
	}
	return strings.TrimSpace(said)
}
