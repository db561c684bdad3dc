package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/engine/nginx"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/test/freeport"
	"github.com/external-lb/external-lb/test/wait"
)

// box is a balancer machine: a real daemon in directories of its own, and an Agent.
type box struct {
	*testing.T
	dir      string
	settings func(b *box, root string) string // host.yaml
	more     string                           // of nginx's host.yaml
	command  []string                         // runs the daemon
	agent    *Agent
	unit     *unit // of the daemon, the Agent's
	daemon   *exec.Cmd
	ended    chan error
	seq      uint64
}

// conf is the owner's, with a stream block that differs from the defaults.
const conf = `
load_module modules/ngx_stream_module.so;
user root;
daemon off;
worker_processes 2;
pid %[1]s/pid;
error_log %[1]s/error.log;
events { worker_connections %[2]d; }
stream {
    deny 127.0.0.9;
    include %[1]s/include.conf;
}
http {
    access_log off;
    include %[1]s/http.con[f];
}
`

// newBox makes a machine whose nginx runs the empty configuration.
func newBox(t *testing.T) *box { return newBoxIn(t, t.TempDir(), 512) }

func newBoxIn(t *testing.T, root string, connections int) *box {
	return newBoxOf(t, root, connections, "")
}

// newBoxOf makes a machine with more settings.
func newBoxOf(t *testing.T, root string, connections int, more string) *box {
	t.Helper()
	dir := t.TempDir()
	b := &box{T: t, dir: dir, settings: nginxSettings, more: more}
	b.command = []string{"nginx", "-c", b.in("nginx.conf"), "-e", b.in("error.log")}
	b.take(b.newAgent(root))
	if err := os.Mkdir(b.in("check"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.write("check/nginx.conf", b.nginx().CheckText([]string{"load_module modules/ngx_stream_module.so;\n"}))
	b.write("include.conf", b.nginx().IncludeText())
	b.write("http.conf", b.nginx().HTTPIncludeText())
	b.write("nginx.conf", fmt.Appendf(nil, conf, dir, connections))
	for link, to := range b.nginx().Links() {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	b.boot()
	return b
}

// boot prepares the machine and starts its daemon.
func (b *box) boot() {
	b.Helper()
	b.initialise()
	b.start()
	b.Cleanup(func() {
		b.stop()
		if b.Failed() {
			log, _ := os.ReadFile(b.in("error.log"))
			b.Logf("%s says:\n%s", b.unit.daemon.Name(), log)
		}
	})
}

// in is a file of the machine's owner.
func (b *box) in(name string) string { return filepath.Join(b.dir, name) }

// take lets an Agent be the machine's.
func (b *box) take(a *Agent) { b.agent, b.unit = a, a.units[0] }

// newAgent is another process on the machine.
func (b *box) newAgent(root string) *Agent {
	b.Helper()
	if b.agent != nil {
		root = b.agent.settings.Root
	}
	return newAgentOf(b, b.settings(b, root))
}

// newAgentOf is the one of a machine that has one daemon and these settings.
func newAgentOf(t testing.TB, settings string) *Agent {
	t.Helper()
	s, err := ParseSettings([]byte(settings), &engines.Table)
	if err != nil {
		t.Fatal(err)
	}
	return agentOf(t, s)
}

func agentOf(t testing.TB, s Settings) *Agent {
	t.Helper()
	a, err := NewAgent(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func nginxSettings(b *box, root string) string {
	proof := freeport.On(b.T, "127.0.76.66").String()
	if b.agent != nil {
		proof = b.nginx().Proof
	}
	return fmt.Sprintf(`
root: %s
nginx:
  check: [nginx, -t, -q, -e, /dev/null, -c, %s]
  reload: [nginx, -c, %s, -e, %s, -s, reload]
  log: [tail, -c, "65536", %s]
  checkAll: [nginx, -t, -q, -e, /dev/null, -c, %[3]s]
  conf: %[3]s
  checkConf: %[2]s
  includeConf: %[6]s
  httpConf: %[10]s
  pidFile: %[7]s
  proof: %[8]s
  proofTimeout: 10s
templates: %[9]s
`+b.more, root, b.in("check/nginx.conf"), b.in("nginx.conf"), b.in("error.log"), b.in("error.log"), b.in("include.conf"), b.in("pid"), proof, b.in("templates"), b.in("http.conf"))
}

func (b *box) nginx() *nginx.Daemon { return b.unit.daemon.(*nginx.Daemon) }

func (b *box) write(name string, data []byte) {
	b.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), data, 0o644); err != nil {
		b.Fatal(err)
	}
}

func (b *box) start() {
	b.Helper()
	b.startUnasked()
	wait.True(b, "the daemon runs", func() bool {
		_, err := b.unit.daemon.Ask(b.Context())
		return err == nil
	})
}

func (b *box) startUnasked() {
	b.Helper()
	log, err := os.OpenFile(b.in("error.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	b.daemon = exec.Command(b.command[0], b.command[1:]...)
	b.daemon.Stdout, b.daemon.Stderr = log, log
	b.daemon.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := b.daemon.Start(); err != nil {
		b.Fatal(err)
	}
	cmd, ended := b.daemon, make(chan error, 1)
	b.ended = ended
	go func() {
		ended <- cmd.Wait()
		close(ended) // who waits for the second time does not wait for ever
	}()
}

func (b *box) stop() {
	if b.daemon == nil {
		return
	}
	_ = b.daemon.Process.Signal(syscall.SIGTERM) // it may have ended already
	<-b.ended
	b.daemon = nil
}

func (b *box) status() condition {
	b.Helper()
	c, err := b.unit.status(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// order of a set.
func (b *box) order(want *fileset.Set) *raw { return &raw{set: want, gone: map[string]string{}} }

// outcome of an order.
type outcome struct {
	Reloaded bool
	Live     fileset.Digest
	Refused  []left
}

// left is a file that was left out.
type left struct{ Path, Reason string }

func (o outcome) paths() (all []string) {
	for _, r := range o.Refused {
		all = append(all, r.Path)
	}
	return all
}

// apply carries a set and wants it, or what is left of it, to be live.
func (b *box) apply(want *fileset.Set) outcome {
	b.Helper()
	o := b.order(want)
	reloaded, err := b.unit.apply(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	out := outcome{Reloaded: reloaded, Live: b.status().generation, Refused: o.left()}
	b.consistent(want.Without(out.paths()...).Digest())
	return out
}

// consistent holds whenever no order is carried: the daemon runs what is on disk,
// and there is no debris.
func (b *box) consistent(live fileset.Digest) {
	b.Helper()
	st := b.status()
	if st.generation != live || !st.proved || !st.running {
		b.Fatalf("want %s live and on disk, the status is: live %s, proved %t, running %t, message %q",
			live.Short(), st.generation.Short(), st.proved, st.running, st.message)
	}
	names, err := os.ReadDir(b.unit.dir)
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range names {
		switch n.Name() {
		case engine.GenerationsDir, engine.LiveLink, stateFile, lockFile:
		default:
			b.Fatalf("debris: %s", n.Name())
		}
	}
	if gens, err := os.ReadDir(filepath.Join(b.unit.dir, engine.GenerationsDir)); err != nil || len(gens) > 2 {
		b.Fatalf("%d generations on disk (%v), want 2 at most", len(gens), err)
	}
	err = filepath.WalkDir(b.unit.dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && (d.Name() == asideDir || strings.HasSuffix(p, tmpSuffix)) {
			err = errors.New("debris: " + p)
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
}

// fails wants an order to fail with a code.
func (b *box) fails(code Code, o order) *Error {
	b.Helper()
	_, err := b.unit.apply(b.Context(), o)
	var coded *Error
	if !errors.As(err, &coded) || coded.Code != code {
		b.Fatalf("want an error with the code %s, got %v", code, err)
	}
	return coded
}

// says wants an address to answer a text; "" wants it to refuse.
func (b *box) says(at netip.AddrPort, want string) {
	b.Helper()
	if got := hear(at); got != want {
		b.Fatalf("%s says %q, want %q", at, got, want)
	}
}

func hear(at netip.AddrPort) string {
	c, err := net.DialTimeout("tcp", at.String(), 5*time.Second)
	if err != nil {
		return ""
	}
	defer c.Close()
	text, _ := io.ReadAll(c) // what has come is what counts
	return string(text)
}

func local(t testing.TB) netip.AddrPort { return freeport.On(t, "127.0.0.1") }

// set of a main file and fragments.
func set(t testing.TB, fragments ...fileset.File) *fileset.Set {
	t.Helper()
	main, err := fileset.NewFile("main.conf", []byte("# nothing\n"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := fileset.New(append(fragments, main)...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// service is a fragment that says a text at an address.
func service(t testing.TB, name, text string, at netip.AddrPort) fileset.File {
	t.Helper()
	return fragment(t, name, fmt.Sprintf("server { listen %s; return %q; }\n", at, text), at)
}

func fragment(t testing.TB, name, text string, at ...netip.AddrPort) fileset.File {
	t.Helper()
	var sockets []fileset.Socket
	for _, a := range at {
		sockets = append(sockets, fileset.Socket{Network: "tcp", Address: a})
	}
	f, err := fileset.NewFragment("services/"+name+".conf", []byte(text), sockets)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// broken is a fragment that nginx refuses.
func broken(t testing.TB, name string) fileset.File {
	t.Helper()
	return fragment(t, name, "server { lissen 1; }\n")
}

// scripted is a machine on which some commands end otherwise.
type scripted struct {
	engine.Runner
	run func(argv []string) (out string, err error, handled bool)
}

func (s scripted) Run(ctx context.Context, argv []string) (string, error) {
	if out, err, handled := s.run(argv); handled {
		return out, err
	}
	return s.Runner.Run(ctx, argv)
}
