package toyengine_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/toyengine"
	"github.com/external-lb/external-lb/test/wait"
)

// table is the real one with a line more.
var table = engine.Table{
	Engines: append(slices.Clone(engines.Table.Engines), toyengine.Engine),
	VRRP:    engines.Table.VRRP,
}

// bareMachine makes a machine out of a copy of this one: a network, processes and
// a file system of its own.
const bareMachine = `
ip link set lo up
ip addr add 198.51.100.1/32 dev lo
ip route add local 198.51.100.0/24 dev lo
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
mount -t proc proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
mount -t tmpfs -o mode=755 tmpfs "$1/root/run"
mkdir -p "$1/root/run/sshd" "$1/root/run/sudo" "$1/root/run/lock"
cp "$4" "$1/root/usr/sbin/toyd"
exec chroot "$1/root" "$2" -test.v -test.count=1 "-test.run=^$3\$"
`

// onBareMachine runs a test on a bare machine of its own, which has toyd.
func onBareMachine(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	if os.Getenv("EXTERNAL_LB_TEST_BARE") != "" {
		test(t)
		return
	}
	toyd := filepath.Join(t.TempDir(), "toyd")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", toyd, "./toyd").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child",
		"sh", "-ec", bareMachine, "sh", t.TempDir(), os.Args[0], t.Name(), toyd)
	cmd.Env = append(os.Environ(), "EXTERNAL_LB_TEST_BARE=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// machine has toyd, and an Agent.
type machine struct {
	*testing.T
	agent *host.Agent
	toyd  *exec.Cmd
	ended chan error
	seq   uint64
}

// install prepares the machine, as an administrator does.
func install(t *testing.T) map[string]engine.StepResult {
	t.Helper()
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJl3dIeudNqd0DPMRD6OIh65tjVHR3j1cjEsUgj9Hj7c me@here"
	steps, err := host.Install(t.Context(), host.InstallOptions{Engine: "toy", AuthorizedKeys: []string{key}}, &table)
	results := map[string]engine.StepResult{}
	for _, s := range steps {
		t.Logf("%-10s %-20s %s", s.Result, s.Name, s.Detail)
		results[s.Name] = s.Result
	}
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func (m *machine) start() {
	m.Helper()
	m.toyd = exec.Command("/usr/sbin/toyd")
	m.toyd.Stdout, m.toyd.Stderr = os.Stdout, os.Stderr
	if err := m.toyd.Start(); err != nil {
		m.Fatal(err)
	}
	m.ended = make(chan error, 1)
	go func() { m.ended <- m.toyd.Wait() }()
	wait.True(m, "toyd answers", func() bool {
		c, err := net.Dial("unix", "/run/toyd.sock")
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func (m *machine) stop() {
	m.Helper()
	if err := m.toyd.Process.Kill(); err != nil {
		m.Fatal(err)
	}
	<-m.ended
}

// boot makes the Agent.
func (m *machine) boot() {
	m.Helper()
	s, err := host.LoadSettings(host.SettingsPath, &table)
	if err != nil {
		m.Fatal(err)
	}
	if m.agent, err = host.NewAgent(s); err != nil {
		m.Fatal(err)
	}
}

func (m *machine) look() host.Status {
	m.Helper()
	st, err := m.agent.Status(m.Context())
	if err != nil {
		m.Fatal(err)
	}
	return st
}

func (m *machine) delivery(cfg *lb.Config) host.Delivery {
	m.Helper()
	want, err := (&lb.Encoder{}).Encode(cfg)
	if err != nil {
		m.Fatal(err)
	}
	have := m.look().Wanted
	m.seq++
	return host.Delivery{Epoch: host.Epoch{Term: 1, Seq: m.seq}, Base: have.Digest(), Change: lb.Diff(have, want), Want: want.Digest()}
}

// send delivers a model, and wants what is live to be proved.
func (m *machine) send(cfg *lb.Config) host.Outcome {
	m.Helper()
	out, err := m.agent.Apply(m.Context(), m.delivery(cfg))
	if err != nil {
		m.Fatal(err)
	}
	m.proved(out)
	return out
}

// proved wants the machine to say what the outcome of the last delivery has said.
func (m *machine) proved(out host.Outcome) {
	m.Helper()
	st := m.look()
	if !out.Proved || !st.Proved || st.Outdated || st.Generation != out.Generation || st.Live.Digest() != out.Live.Digest() {
		m.Fatalf("the outcome is\n%+v\nand the status\n%+v", out, st)
	}
}

// fails wants a delivery to fail, and what was live to go on.
func (m *machine) fails(code host.Code, words string, cfg *lb.Config, before host.Outcome) {
	m.Helper()
	_, err := m.agent.Apply(m.Context(), m.delivery(cfg))
	coded, _ := errors.AsType[*host.Error](err)
	if coded == nil || coded.Code != code || !strings.Contains(coded.Message, words) {
		m.Fatalf("want %s with %q, got %v", code, words, err)
	}
	m.proved(before)
}

// refused wants one refusal.
func (m *machine) refused(out host.Outcome, reason lb.RefusalReason, words string) host.Refusal {
	m.Helper()
	if len(out.Refused) != 1 || out.Refused[0].Reason != reason || !strings.Contains(out.Refused[0].Message, words) {
		m.Fatalf("refused: %+v, want one with %s and %q", out.Refused, reason, words)
	}
	return out.Refused[0]
}

// hear what is said at an address; "" if nobody answers.
func (m *machine) hear(at netip.AddrPort) string {
	c, err := net.DialTimeout("tcp", at.String(), 5*time.Second)
	if err != nil {
		return ""
	}
	defer c.Close()
	text, _ := io.ReadAll(c) // what has come is what counts
	return string(text)
}

func (m *machine) says(at netip.AddrPort, want string) {
	m.Helper()
	if got := m.hear(at); got != want {
		m.Fatalf("%s says %q, want %q", at, got, want)
	}
}

// node says a text to whoever connects to a nodePort.
func (m *machine) node(n lb.Node, port uint16, text string) {
	m.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(n.IPv4, port).String())
	if err != nil {
		m.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, text) // a client that has gone is not missed
			c.Close()
		}
	})
	m.Cleanup(func() { l.Close(); all.Wait() })
}

// carried is a Service on all nodes.
func carried(t testing.TB, name string, nodePort uint16, listeners ...string) *lb.Service {
	t.Helper()
	id, err := lb.NewID("default", name, "uid-"+name)
	if err != nil {
		t.Fatal(err)
	}
	family := lb.Family{Targets: lb.Targets{All: true}, Clients: lb.Clients{Everybody: true}}
	s := &lb.Service{ID: id, IPv4: family, IPv6: family}
	for _, at := range listeners {
		a := netip.MustParseAddrPort(at)
		s.Frontends = append(s.Frontends, lb.Frontend{
			Listener: lb.Listener{Address: a.Addr(), Port: a.Port(), Protocol: lb.TCP}, NodePort: nodePort,
			Settings: lb.Settings{
				Algorithm: lb.RoundRobin, Mode: lb.ModeTCP, SendProxy: lb.ProxyNone, Retries: 2,
				ConnectTimeout: time.Second, IdleTimeout: 10 * time.Minute,
				HealthCheck: lb.HealthCheck{Type: lb.CheckAuto, Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3},
			},
		})
	}
	return s
}

// changed is another version of a Service.
func changed(s *lb.Service, change func(*lb.Settings)) *lb.Service {
	next := *s
	next.Frontends = slices.Clone(s.Frontends)
	for i := range next.Frontends {
		change(&next.Frontends[i].Settings)
	}
	return &next
}

func wants(nodes []lb.Node, services ...*lb.Service) *lb.Config {
	slices.SortFunc(services, func(a, b *lb.Service) int { return a.ID.Compare(b.ID) })
	return &lb.Config{Nodes: nodes, Services: services}
}
