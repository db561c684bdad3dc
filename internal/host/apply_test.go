package host

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
)

func TestS15_ApplyProvesWhatIsLive(t *testing.T) {
	b := newBox(t)
	web, dns := local(t), local(t)

	out := b.apply(set(t, service(t, "web", "one", web), service(t, "dns", "dns", dns)))
	if !out.Reloaded || len(out.Refused) > 0 {
		t.Fatalf("outcome: %+v", out)
	}
	b.says(web, "one")
	b.says(dns, "dns")

	want := set(t, service(t, "web", "two", web))
	if out = b.apply(want); out.Live != want.Digest() {
		t.Fatalf("live is %s, want %s", out.Live, want.Digest())
	}
	b.says(web, "two")
	b.says(dns, "")
	if v := b.status().version; !strings.HasPrefix(v, "nginx/1.") {
		t.Errorf("engine version %q", v)
	}
}

func TestNothingIsReloadedWhenNothingChanged(t *testing.T) {
	b := newBox(t)
	want := set(t, service(t, "web", "one", local(t)))
	b.apply(want)
	said, err := b.nginx().Ask(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if out := b.apply(want); out.Reloaded || out.Live != want.Digest() {
		t.Errorf("outcome: %+v", out)
	}
	if title := string(engine.CommandLine(said.PID)); !strings.HasPrefix(title, "nginx: worker process") || strings.Contains(title, "shutting down") {
		t.Errorf("the worker has been replaced: %q", title)
	}
}

func TestRefusedFragmentsAreLeftOutAndTheOthersGoLive(t *testing.T) {
	b := newBox(t)
	at := local(t)
	good := service(t, "b-good", "good", at)
	all := set(t, broken(t, "a-bad"), good, broken(t, "c-bad"))
	for round := range 2 { // and again when it is delivered again
		out := b.apply(all)
		if diff := cmp.Diff([]left{
			{"services/a-bad.conf", `unknown directive "lissen" in services/a-bad.conf:1`},
			{"services/c-bad.conf", `unknown directive "lissen" in services/c-bad.conf:1`},
		}, out.Refused); diff != "" {
			t.Fatal(diff)
		}
		if out.Reloaded != (round == 0) || out.Live != set(t, good).Digest() {
			t.Fatalf("round %d: %+v", round, out)
		}
		b.says(at, "good")
	}
}

func TestAnErrorInTheMainFileIsRolledBack(t *testing.T) {
	b := newBox(t)
	at := local(t)
	before := b.apply(set(t, service(t, "web", "one", at)))
	main, err := fileset.NewFile("main.conf", []byte("nonsense;\n"))
	if err != nil {
		t.Fatal(err)
	}
	bad, err := fileset.New(main, service(t, "web", "two", at))
	if err != nil {
		t.Fatal(err)
	}
	if e := b.fails(CodeRolledBack, b.order(bad)); !strings.Contains(e.Message, `unknown directive "nonsense" in `) {
		t.Errorf("message: %s", e.Message)
	}
	b.consistent(before.Live)
	b.says(at, "one")
}

func TestAnAddressThatIsNotHereIsRefused(t *testing.T) {
	b := newBox(t)
	at := local(t)
	out := b.apply(set(t,
		service(t, "here", "here", at),
		service(t, "four", "x", netip.MustParseAddrPort("192.0.2.9:80")),
		service(t, "six", "x", netip.MustParseAddrPort("[2001:db8::9]:80"))))
	if diff := cmp.Diff([]left{
		{"services/four.conf", "address 192.0.2.9 is not on this host: add it to an interface (ip addr add 192.0.2.9/32 dev …) or set net.ipv4.ip_nonlocal_bind=1"},
		{"services/six.conf", "address 2001:db8::9 is not on this host: add it to an interface (ip addr add 2001:db8::9/128 dev …) or set net.ipv6.ip_nonlocal_bind=1"},
	}, out.Refused); diff != "" {
		t.Fatal(diff)
	}
	b.says(at, "here")
}

func TestManyBadFragmentsAreFoundQuickly(t *testing.T) {
	b := newBox(t)
	checks := 0
	b.nginx().Runner = scripted{engine.Machine{}, func(argv []string) (string, error, bool) {
		if argv[1] == "-t" {
			checks++
		}
		return "", nil, false
	}}
	var files, good []fileset.File
	var bad []string
	port := local(t).Port()
	for i := range 200 {
		name := fmt.Sprintf("s%03d", i)
		if i%4 == 0 {
			files = append(files, broken(t, name))
			bad = append(bad, "services/"+name+".conf")
			continue
		}
		f := service(t, name, name, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(i)}), port))
		files, good = append(files, f), append(good, f)
	}
	out := b.apply(set(t, files...))
	if diff := cmp.Diff(bad, out.paths()); diff != "" {
		t.Fatal(diff)
	}
	if out.Live != set(t, good...).Digest() {
		t.Error("what is left is not live")
	}
	if checks > len(bad)+2 {
		t.Errorf("%d checks for %d bad fragments", checks, len(bad))
	}
	for _, f := range good {
		b.says(f.Listens[0].Address, strings.TrimSuffix(strings.TrimPrefix(f.Path, "services/"), ".conf"))
	}
}

// nginx does not name the file when there are too many ports for its limit of
// connections: here the isolated check has that limit, too.
func TestCulpritsWithoutANameAreFoundByTrying(t *testing.T) {
	b := newBoxIn(t, t.TempDir(), 20)
	at := local(t)
	b.apply(set(t, service(t, "old", "old", at)))
	limited := strings.ReplaceAll(string(b.nginx().CheckText([]string{"load_module modules/ngx_stream_module.so;\n"})), "1048576", "20")
	b.write("check/nginx.conf", []byte(limited))
	many := ""
	for i := range 30 {
		many += fmt.Sprintf("server { listen 127.0.2.%d:%d; return x; }\n", i+1, at.Port())
	}
	fine := local(t)
	out := b.apply(set(t, service(t, "old", "old", at), fragment(t, "many", many), service(t, "fine", "fine", fine)))
	if diff := cmp.Diff([]string{"services/many.conf"}, out.paths()); diff != "" {
		t.Fatal(diff)
	}
	b.says(at, "old")
	b.says(fine, "fine")
}

func TestTwoFragmentsOnOneSocket(t *testing.T) {
	b := newBox(t)
	at := local(t)
	out := b.apply(set(t, service(t, "a", "first", at), service(t, "b", "second", at)))
	if len(out.Refused) != 1 || !strings.Contains(out.Refused[0].Reason, "duplicate") {
		t.Fatalf("refused: %+v", out.Refused)
	}
	b.says(at, "first")
}

func TestTooFewConnectionsAreAProblemOfTheMachine(t *testing.T) {
	b := newBoxIn(t, t.TempDir(), 20)
	before := b.status().generation
	var files []fileset.File
	port := local(t).Port()
	for i := range 30 {
		files = append(files, service(t, fmt.Sprint("s", i), "x", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 3, byte(i + 1)}), port)))
	}
	e := b.fails(CodeMachine, b.order(set(t, files...)))
	if !strings.Contains(e.Message, "20 worker_connections are not enough") || !strings.Contains(e.Message, "to 1024 or more") {
		t.Errorf("message: %s", e.Message)
	}
	b.consistent(before)
	b.apply(set(t, files[:12]...))
	if m := b.status().message; !strings.Contains(m, "20 worker_connections are few for 12 listeners") {
		t.Errorf("message: %q", m)
	}
}

func TestTooFewOpenFilesAreAProblemOfTheMachine(t *testing.T) {
	b := newBox(t)
	at := local(t)
	before := b.apply(set(t, service(t, "web", "one", at)))
	if err := unix.Prlimit(b.daemon.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 40, Max: 40}, nil); err != nil {
		t.Fatal(err)
	}
	var files []fileset.File
	for i := range 60 {
		files = append(files, service(t, fmt.Sprint("s", i), "x", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 4, byte(i + 1)}), at.Port())))
	}
	e := b.fails(CodeMachine, b.order(set(t, files...)))
	if !strings.Contains(e.Message, "Too many open files") || !strings.Contains(e.Message, "LimitNOFILE") {
		t.Errorf("message: %s", e.Message)
	}
	b.consistent(before.Live)
	b.says(at, "one")
}

func TestOnlyWhatChangesIsWritten(t *testing.T) {
	b := newBox(t)
	same, other := service(t, "same", "same", local(t)), local(t)
	b.apply(set(t, same, service(t, "other", "one", other)))
	path := func(name string) string { return b.unit.dir + "/live/services/" + name + ".conf" }
	before := [2]os.FileInfo{stat(t, path("same")), stat(t, path("other"))}
	b.apply(set(t, same, service(t, "other", "two", other)))
	if !os.SameFile(before[0], stat(t, path("same"))) {
		t.Error("what has not changed was written again")
	}
	if os.SameFile(before[1], stat(t, path("other"))) {
		t.Error("what has changed was written in place")
	}
}

// A check that hangs does so for minutes, with the store locked: it is not asked what it says without the change.
func TestACheckThatHangsIsNotAskedTwice(t *testing.T) {
	b := newBox(t)
	at := local(t)
	before := b.apply(set(t, service(t, "web", "one", at)))
	whole := b.nginx().Whole()
	asked := 0
	b.nginx().Runner = scripted{engine.Machine{}, func(argv []string) (string, error, bool) {
		if len(argv) < len(whole) || !slices.Equal(argv[len(argv)-len(whole):], whole) {
			return "", nil, false
		}
		asked++
		return "", context.DeadlineExceeded, true // of the command alone
	}}
	if e := b.fails(CodeMachine, b.order(set(t, service(t, "web", "two", at)))); !strings.Contains(e.Message, "deadline exceeded") {
		t.Errorf("message: %s", e.Message)
	}
	if asked != 1 {
		t.Errorf("all is checked %d times", asked)
	}
	b.consistent(before.Live)
	b.says(at, "one")
}

func stat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}
