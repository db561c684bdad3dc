package e2e

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	table "github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/conformance"
)

// testedEngine is what tests must know of an engine beyond what its users see.
type testedEngine struct {
	name       v1alpha1.Engine
	own        v1alpha1.Engine    // how flags and tables name it, if not as users do
	pools      []string           // that are local where it carries
	datagrams  v1alpha1.Datagrams // carries them beside it
	part       string             // the tests that are run where nobody chooses; "": all
	rows       []string           // that these prove
	leastConns string             // how its configuration says LeastConnections
	running    string             // the file that tampering must hit for the daemon to notice, below live/; %s: the fragment
	conf       string             // of its owner
	pidFile    string             // of who takes its signals
	reload     string             // by hand, as a script
	stop, kill string
	daemon     string // as messages call it
	nonsense   string // lines of its owner's with which it does not run
}

// engines are all on which the suite runs.
var engines = []testedEngine{
	{
		name: v1alpha1.EngineNginx, daemon: "nginx", nonsense: "nonsense;", leastConns: "least_conn", running: "%s", conf: "/etc/nginx/nginx.conf",
		reload: "nginx -s reload", pidFile: "/run/nginx.pid",
		stop: "nginx -s stop; until ! pgrep -x nginx; do sleep 0.05; done",
		kill: "pkill -KILL -x nginx; until ! pgrep -x nginx; do sleep 0.05; done",
	},
	{
		name: v1alpha1.EngineHAProxy, daemon: "HAProxy", nonsense: "nonsense", leastConns: "leastconn", running: "haproxy.cfg", conf: "/etc/haproxy/haproxy.cfg",
		reload: "pkill -USR2 -F /run/haproxy.pid", pidFile: "/run/haproxy.pid",
		stop: "pkill -TERM -F /run/haproxy.pid; until ! pgrep -x haproxy; do sleep 0.05; done",
		kill: "pkill -KILL -x haproxy; until ! pgrep -x haproxy; do sleep 0.05; done",
	},
	{
		name: v1alpha1.EngineLVS, daemon: "keepalived", leastConns: "lvs_sched wlc", running: "%s", conf: "/etc/keepalived/keepalived.conf",
		nonsense: "vrrp_instance owners {\n  interface nonsense\n  virtual_router_id 9\n}", // it passes over words that it does not know
		reload:   "pkill -HUP -F /run/keepalived.pid", pidFile: "/run/keepalived.pid",
		stop: "pkill -TERM -F /run/keepalived.pid; until ! pgrep -f '^keepalived'; do sleep 0.05; done",
		kill: "pkill -KILL -f '^keepalived'; until ! pgrep -f '^keepalived'; do sleep 0.05; done",
	},
}

// withDatagrams is an engine beside which the kernel carries datagrams, and some rows about
// them. How it carries the rest is what the tests of that engine show.
func withDatagrams(name v1alpha1.Engine, rows ...string) testedEngine {
	i := slices.IndexFunc(engines, func(e testedEngine) bool { return e.name == name })
	e := engines[i]
	e.datagrams, e.part, e.rows = v1alpha1.DatagramsLVS, "^TestDatagrams_|^TestLVS_CarriesSCTP$", rows
	if len(rows) > 0 {
		e.part += "|^Test(" + strings.Join(rows, "|") + ")_"
	}
	return e
}

func init() {
	engines = append(engines, withDatagrams(v1alpha1.EngineHAProxy, conformance.Datagrams()...), withDatagrams(v1alpha1.EngineNginx))
}

// called is how flags and tables name it: haproxy, or haproxy+lvs.
func (e testedEngine) called() v1alpha1.Engine {
	if e.own != "" {
		return e.own
	}
	return v1alpha1.Engine(table.Carrying(e.name, e.datagrams).String())
}

// engine is the one under test.
var engine testedEngine

// live is where a host keeps what the engine runs.
func (e testedEngine) live() string { return "/var/lib/external-lb/" + string(e.name) + "/live/" }

// fragmentPath is the file of a Service below live.
func fragmentPath(svc *corev1.Service) string {
	return "services/" + strings.Join([]string{svc.Namespace, svc.Name, string(svc.UID)}, ".") + ".conf"
}

// runningPath is the file that the daemon reads for a Service.
func (e testedEngine) runningPath(svc *corev1.Service) string {
	return e.live() + strings.ReplaceAll(e.running, "%s", fragmentPath(svc))
}

// applies ends a test, or a part of one, that is about what the engine cannot do.
// That it is so must stand in the table of conformance, with the reason.
func applies(t *testing.T, can bool) {
	t.Helper()
	recorded(t)
	if can {
		return
	}
	name := engine.called()
	row := conformance.Of(t.Name())
	if row == nil || row.Excepts(name) == "" && row.Lacks(name) == "" {
		t.Fatalf("cannot be tested on %s, and no row of test/conformance says why", name)
	}
	t.Skip("not applicable: " + row.Excepts(name) + row.Lacks(name))
}

// carries ends a test that is about a protocol which the engine does not carry.
// That the engine says so is another test's matter (S13).
func carries(t *testing.T, protocol corev1.Protocol) {
	t.Helper()
	applies(t, carried(t, protocol))
}

func carried(t *testing.T, protocol corev1.Protocol) bool {
	t.Helper()
	return carriers(t).Carries(lb.Protocol(protocol))
}

// isRecorded has the tests that are recorded.
var isRecorded sync.Map

// recorded tells conformance what becomes of a test.
func recorded(t *testing.T) {
	if _, already := isRecorded.LoadOrStore(t, true); already {
		return
	}
	began := time.Now()
	t.Cleanup(func() { record.add(t, time.Since(began)) })
}
