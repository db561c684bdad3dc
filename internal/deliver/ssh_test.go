package deliver

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/wait"
)

const forcedServe = served + "=serve /run/external-lb"

func TestSSHDelivers(t *testing.T) {
	s := startSSHD(t, forcedServe)
	f := NewFleet(Options{Leader: &leads{term: 1}, Log: quiet(t)})
	defer f.Close()
	f.Set("edge", []Target{s.target})
	want := set("a=1", "whoami=1")
	f.Deliver("edge", onLB1(want), "service")
	wait.True(t, "Partial", func() bool { return f.States("edge")[0].State == v1alpha1.HostPartial })
	st := f.States("edge")[0]
	if !st.Serves("a", sum("1")) || st.Live != set("a=1").Digest() {
		t.Errorf("%+v", st)
	}
	if uid := st.Refused[0].Message; os.Getuid() == 0 && uid != "4242" {
		t.Errorf("the host's end runs as %s", uid)
	}
}

func TestSSHRefusals(t *testing.T) {
	s := startSSHD(t, forcedServe)
	otherKey, otherPub := newKey(t)
	endpoint := s.target.Endpoint()
	shown := "ssh-ed25519 key " + ssh.FingerprintSHA256(s.hostKey)
	scan := fmt.Sprintf("`ssh-keyscan -p %d 127.0.0.1`", s.target.port())
	tests := map[string]struct {
		change func(*Target)
		reason Reason
		says   []string
	}{
		"key refused": {func(t *Target) { t.PrivateKey = otherKey }, ReasonKeyRefused,
			[]string{"sshd on " + endpoint + " refuses the key for the user " + s.target.Host.User, "authorized_keys"}},
		"no such user": {func(t *Target) { t.Host.User = "nobody-at-all" }, ReasonKeyRefused, []string{"does the user exist"}},
		"host key changed": {func(t *Target) { t.KnownHosts = []byte(knownhosts.Line([]string{endpoint}, otherPub)) }, ReasonHostKeyChanged,
			[]string{endpoint + " shows the " + shown, "has another for it", scan}},
		"host key unknown": {func(t *Target) { t.KnownHosts = []byte(knownhosts.Line([]string{"192.0.2.1:22"}, s.hostKey)) }, ReasonHostKeyUnknown,
			[]string{"has no key for " + endpoint, " key SHA256:", scan}},
		"host key revoked": {func(t *Target) { t.KnownHosts = append([]byte("@revoked * "), ssh.MarshalAuthorizedKey(s.hostKey)...) }, ReasonHostKeyUnknown,
			[]string{"has no key for " + endpoint}},
		"host key revoked and known": {func(t *Target) {
			t.KnownHosts = append(append([]byte("@revoked * "), ssh.MarshalAuthorizedKey(s.hostKey)...), s.target.KnownHosts...)
		}, ReasonHostKeyChanged, []string{"revoked"}},
		"host key known by another case": {func(t *Target) {
			t.Host.Address, t.KnownHosts = "LocalHost", []byte(knownhosts.Line([]string{"LOCALhost:" + strconv.Itoa(t.port())}, otherPub))
		}, ReasonHostKeyChanged, []string{"has another for it"}},
		"no private key":     {func(t *Target) { t.PrivateKey = nil }, ReasonSecret, []string{"the Secret has no ssh-privatekey"}},
		"bad private key":    {func(t *Target) { t.PrivateKey = []byte("ssh-ed25519 AAAA") }, ReasonSecret, []string{"ssh-privatekey of the Secret cannot be read"}},
		"no known_hosts":     {func(t *Target) { t.KnownHosts = []byte(" \n") }, ReasonSecret, []string{"the Secret has no known_hosts"}},
		"bad known_hosts":    {func(t *Target) { t.KnownHosts = []byte("#\nrubbish") }, ReasonSecret, []string{"known_hosts of the Secret cannot be read", "line 2"}},
		"long known_hosts":   {func(t *Target) { t.KnownHosts = append([]byte("rubbish\n"), make([]byte, 1<<20)...) }, ReasonSecret, []string{"line 1"}},
		"nobody listens":     {func(t *Target) { t.Host.Port = 1; t.KnownHosts = s.target.KnownHosts }, ReasonUnreachable, []string{"refuses connections", "is sshd running"}},
		"name not in DNS":    {func(t *Target) { t.Host.Address = "no-such-host.invalid" }, ReasonUnreachable, []string{"the name no-such-host.invalid does not resolve"}},
		"key has passphrase": {func(t *Target) { t.PrivateKey = lockedKey() }, ReasonSecret, []string{"protected by a passphrase"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			target := s.target
			tc.change(&target)
			dialFails(t, target, 0, tc.reason, tc.says...)
		})
	}
}

func lockedKey() []byte {
	_, priv, _ := ed25519.GenerateKey(rand.Reader)
	block, _ := ssh.MarshalPrivateKeyWithPassphrase(priv, "", []byte("secret"))
	return pem.EncodeToMemory(block)
}

// dialFails tries it for as long as a busy machine may take. Where silence is what fails, all of limit is waited for.
func dialFails(t *testing.T, target Target, limit time.Duration, reason Reason, says ...string) {
	t.Helper()
	c, err := SSH{Timeout: cmp.Or(limit, 30*time.Second)}.Dial(t.Context(), target)
	if err == nil {
		c.Close()
		t.Fatal("connected")
	}
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Reason != reason {
		t.Fatalf("got %#v, want reason %s", err, reason)
	}
	for _, want := range says {
		if !strings.Contains(e.Message, want) {
			t.Errorf("message %q lacks %q", e.Message, want)
		}
	}
	t.Log(e.Message)
}

func TestSSHForcedCommandIsNotOurs(t *testing.T) {
	tests := map[string]struct {
		forced string
		reason Reason
		says   []string
		limit  time.Duration
	}{
		"missing":    {"external-lb host serve", ReasonCommand, []string{"not found", "exit status 127", "external-lb host install"}, 0},
		"garbage":    {"echo Welcome to Debian", ReasonCommand, []string{`it says "Welcome to Debian\n"`}, 0},
		"another":    {"cat", ReasonCommand, []string{"it says nothing"}, 3 * time.Second},
		"it fails":   {served + "=die /run/external-lb", ReasonCommand, []string{"host.yaml: permission denied", "exit status 1", "host status"}, 0},
		"newer":      {served + "=newer /run/external-lb", ReasonProtocol, []string{"the host runs external-lb v9.0.0, protocol 99", "update the controller"}, 0},
		"nothing":    {"true", ReasonCommand, []string{"said nothing"}, 0},
		"terminated": {"kill -9 $$", ReasonCommand, []string{"host serve` on 127.0.0.1"}, 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			dialFails(t, startSSHD(t, tc.forced).target, tc.limit, tc.reason, tc.says...)
		})
	}
}

// wireCut is a TCP proxy that can stop to carry anything without closing.
type wireCut struct {
	l       net.Listener
	to      string
	late    time.Duration // that it carries the first byte to a client
	silent  atomic.Bool
	accepts atomic.Int32
	wg      sync.WaitGroup
	mu      sync.Mutex
	conns   []net.Conn
}

func newWireCut(t *testing.T, to string) *wireCut {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &wireCut{l: l, to: to}
	p.wg.Go(func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			p.accepts.Add(1)
			p.carry(c)
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.hangUp()
		p.wg.Wait()
	})
	return p
}

// throughWireCut is an sshd as a target behind such a proxy.
func throughWireCut(t *testing.T, s sshd) (*wireCut, Target) {
	t.Helper()
	p, target := newWireCut(t, s.target.Endpoint()), s.target
	target.Host.Port = int32(p.l.Addr().(*net.TCPAddr).Port)
	target.KnownHosts = []byte(knownhosts.Line([]string{target.Endpoint()}, s.hostKey))
	return p, target
}

func (p *wireCut) carry(a net.Conn) {
	b, err := net.Dial("tcp", p.to)
	if err != nil {
		a.Close()
		return
	}
	p.mu.Lock()
	p.conns = append(p.conns, a, b)
	p.mu.Unlock()
	for from, to := range map[net.Conn]net.Conn{a: b, b: a} {
		p.wg.Go(func() {
			defer to.Close()
			if from == b {
				<-time.After(p.late)
			}
			buf := make([]byte, 32<<10)
			for n, err := from.Read(buf); err == nil; n, err = from.Read(buf) {
				if !p.silent.Load() {
					_, _ = to.Write(buf[:n])
				}
			}
		})
	}
}

func (p *wireCut) hangUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func TestSSHConnectionIsCut(t *testing.T) {
	s := startSSHD(t, forcedServe)
	tests := map[string]func(*wireCut){
		"closed":   (*wireCut).hangUp,
		"silenced": func(p *wireCut) { p.silent.Store(true) },
	}
	for name, cut := range tests {
		t.Run(name, func(t *testing.T) {
			p, target := throughWireCut(t, s)
			f := NewFleet(Options{
				Leader: &leads{term: 1},
				Dialer: SSH{Timeout: time.Second, KeepAlive: 20 * time.Millisecond}, Log: quiet(t),
			})
			defer f.Close()
			f.Set("edge", []Target{target})
			f.Deliver("edge", onLB1(set("a=1")), "service")
			wait.True(t, "InSync", func() bool { return f.States("edge")[0].State == v1alpha1.HostInSync })
			accepts := p.accepts.Load()
			cut(p)
			wait.True(t, "Unreachable", func() bool { return f.States("edge")[0].State == v1alpha1.HostUnreachable })
			if st := f.States("edge")[0]; !st.Serves("a", sum("1")) || st.Message == "" {
				t.Errorf("%+v", st)
			}
			p.silent.Store(false)
			wait.True(t, "InSync", func() bool { return f.States("edge")[0].State == v1alpha1.HostInSync })
			if p.accepts.Load() == accepts {
				t.Error("no new connection")
			}
		})
	}
}

// A host that is overloaded finishes no handshake in the time that others need. Each attempt
// that is given up makes that worse, so it has more time at the next one.
func TestSSHAHostThatIsSlowHasMoreTime(t *testing.T) {
	const patience = 300 * time.Millisecond
	s := startSSHD(t, forcedServe)
	p, target := throughWireCut(t, s)
	p.late = 3 * patience // too late for two attempts
	f := NewFleet(Options{Leader: &leads{term: 1}, Dialer: SSH{Timeout: patience}, Log: quiet(t)})
	defer f.Close()
	f.Set("edge", []Target{target})
	f.Deliver("edge", onLB1(set("a=1")), "service")
	wait.True(t, "told that it is slow", func() bool { return strings.Contains(f.States("edge")[0].Message, "is the host overloaded?") })
	wait.True(t, "InSync", func() bool { return f.States("edge")[0].State == v1alpha1.HostInSync })
	if n := p.accepts.Load(); n < 3 {
		t.Errorf("%d attempts", n)
	}
}

func TestSSHListenerThatIsNotSSHD(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	private, public := newKey(t)
	target := Target{PrivateKey: private, Host: v1alpha1.Host{Address: "127.0.0.1", Port: int32(l.Addr().(*net.TCPAddr).Port)}}
	target.KnownHosts = []byte(knownhosts.Line([]string{target.Endpoint()}, public))
	c, err := SSH{Timeout: 2 * time.Second}.Dial(t.Context(), target)
	if err == nil {
		c.Close()
		t.Fatal("connected")
	}
	if e, ok := errors.AsType[*Error](err); !ok || e.Reason != ReasonUnreachable || !strings.Contains(e.Message, "is it sshd that listens there") {
		t.Errorf("%v", err)
	}
}

// A server that lets everybody log in, and then does nothing at all, or opens a session and
// takes nothing, holds nobody up: neither the worker nor the end of the controller.
func TestSSHOpensNoSession(t *testing.T) {
	hostKey, public := newKey(t)
	signer, err := ssh.ParsePrivateKey(hostKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		serve  func(ssh.NewChannel)
		reason Reason
		says   string
	}{
		"no session": {func(ssh.NewChannel) {}, ReasonUnreachable, "opens no session within"},
		"no command": {func(n ssh.NewChannel) { _, _, _ = n.Accept() }, ReasonUnreachable, "opens no session within"},
		"no words": {func(n ssh.NewChannel) {
			if _, requests, err := n.Accept(); err == nil {
				for r := range requests {
					_ = r.Reply(true, nil) // whoever asked may have gone
				}
			}
		}, ReasonCommand, "it says nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var serving sync.WaitGroup
			defer serving.Wait()
			defer l.Close()
			var asked atomic.Int32
			serving.Go(func() {
				for tcp, err := l.Accept(); err == nil; tcp, err = l.Accept() {
					serving.Go(func() {
						letIn(tcp, signer, func(n ssh.NewChannel) {
							asked.Add(1)
							c.serve(n)
						})
					})
				}
			})
			private, _ := newKey(t)
			target := Target{PrivateKey: private, Host: v1alpha1.Host{Name: "lb1", Address: "127.0.0.1", Port: int32(l.Addr().(*net.TCPAddr).Port)}}
			target.KnownHosts = []byte(knownhosts.Line([]string{target.Endpoint()}, public))
			conn, err := SSH{Timeout: 3 * time.Second}.Dial(t.Context(), target)
			if err == nil {
				conn.Close()
				t.Fatal("connected")
			}
			if e, ok := errors.AsType[*Error](err); !ok || e.Reason != c.reason || !strings.Contains(e.Message, c.says) {
				t.Errorf("%v", err)
			}
			// Nor does it hold up the end, long before that time is over.
			before := asked.Load()
			f := NewFleet(Options{Leader: &leads{term: 1}, Dialer: SSH{Timeout: time.Hour}, Log: quiet(t)})
			f.Set("edge", []Target{target})
			wait.True(t, "it asks for a session", func() bool { return asked.Load() > before })
			f.Close()
		})
	}
}

// letIn logs a client in, and serves the sessions that it wants.
func letIn(tcp net.Conn, signer ssh.Signer, serve func(ssh.NewChannel)) {
	defer tcp.Close()
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(signer)
	_, channels, requests, err := ssh.NewServerConn(tcp, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	var serving sync.WaitGroup
	defer serving.Wait()
	for n := range channels {
		serving.Go(func() { serve(n) })
	}
}

func TestKnownHostsInAnyCase(t *testing.T) {
	const text = "LB1.Example.com,[LB1]:2222 ssh-ed25519 AAAAKey= Comment Of Mine\n" +
		"\t@cert-authority  *.Example.COM ssh-rsa BBBB\n|1|HaSh=|SaLt= ssh-rsa CCCC\n# A Comment\n\nrubbish\n@Revoked"
	const want = "lb1.example.com,[lb1]:2222 ssh-ed25519 AAAAKey= Comment Of Mine\n" +
		"\t@cert-authority  *.example.com ssh-rsa BBBB\n|1|HaSh=|SaLt= ssh-rsa CCCC\n# A Comment\n\nrubbish\n@Revoked"
	if got := string(lowerHosts([]byte(text))); got != want {
		t.Errorf("%q", got)
	}
}
