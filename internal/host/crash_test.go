package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/nginx"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/test/wait"
)

// crash is what a process does at a step.
type crash struct{ step string }

// applyAndCrash delivers until a step, and reports whether that step came.
func (b *box) applyAndCrash(step string, o order) (crashed bool, err error) {
	dying := b.newAgent("").units[0]
	dying.daemon.(*nginx.Daemon).Runner = b.nginx().Runner
	dying.at = func(s string) {
		if s == step {
			panic(crash{s})
		}
	}
	defer func() {
		if c := recover(); c != nil {
			if _, ok := c.(crash); !ok {
				panic(c)
			}
			crashed = true
		}
	}()
	_, err = dying.apply(b.Context(), o)
	return false, err
}

// A process that dies at any step leaves the old or the new configuration, live
// and on disk, and whoever comes next can go on from there.
func TestS35_CrashAtAnyStep(t *testing.T) {
	for step, after := range map[string]string{
		"probe": "old", "stage": "old", "check": "old", "check by itself": "old", "seal": "old", "prepare": "old",
		"swap": "old", "reload": "old", "commit": "new", "clean": "new",
	} {
		t.Run(step, func(t *testing.T) {
			b := newBox(t)
			at, stays := local(t), local(t)
			texts := map[string]string{"old": "one", "new": "two"}
			b.apply(set(t, service(t, "web", "one", at), service(t, "stays", "stays", stays)))
			next := []fileset.File{service(t, "web", "two", at), service(t, "stays", "stays", stays)}
			if step == "check by itself" {
				next = append(next, fragment(t, "bad", "bad;\n"))
			}
			crashed, err := b.applyAndCrash(step, b.order(set(t, next...)))
			if !crashed {
				t.Fatalf("the step did not come: %v", err)
			}
			b.says(at, texts[after]) // nobody has cleaned up yet
			b.says(stays, "stays")

			b.take(b.newAgent(""))
			st := b.status()
			b.consistent(st.generation)
			b.says(at, texts[after])
			b.says(stays, "stays")

			b.apply(set(t, service(t, "web", "three", at)))
			b.says(at, "three")
		})
	}
}

func TestS35_CrashDuringARollback(t *testing.T) {
	for step, after := range map[string]string{
		"swap back":   "two", // what the daemon proves counts, not what was thought of it
		"reload back": "one", "clean back": "one",
	} {
		t.Run(step, func(t *testing.T) {
			b := newBox(t)
			at := local(t)
			b.apply(set(t, service(t, "web", "one", at)))
			good := b.nginx().Runner
			b.nginx().Runner = failsAfterReload(b)
			crashed, err := b.applyAndCrash(step, b.order(set(t, service(t, "web", "two", at))))
			if !crashed {
				t.Fatalf("the step did not come: %v", err)
			}
			b.take(b.newAgent(""))
			b.nginx().Runner = good
			b.consistent(set(t, service(t, "web", after, at)).Digest())
			b.says(at, after)
		})
	}
}

// failsAfterReload is a machine whose first reload works and is said to have failed.
func failsAfterReload(b *box) engine.Runner {
	failed := false
	return scripted{engine.Machine{}, func(argv []string) (string, error, bool) {
		if argv[len(argv)-1] != "reload" || failed {
			return "", nil, false
		}
		failed = true
		if out, err := (engine.Machine{}).Run(b.Context(), argv); err != nil {
			return out, err, true
		}
		return "nginx: [emerg] no luck", exec.Command("false").Run(), true
	}}
}

func TestAReloadThatIsNotProvedIsRolledBack(t *testing.T) {
	b := newBox(t)
	at := local(t)
	before := b.apply(set(t, service(t, "web", "one", at)))
	b.nginx().Runner = failsAfterReload(b)
	e := b.fails(CodeRolledBack, b.order(set(t, service(t, "web", "two", at))))
	if e.Message != "nginx refuses the configuration: no luck" {
		t.Errorf("message: %s", e.Message)
	}
	b.consistent(before.Live)
	b.says(at, "one")
}

// The owner breaks his own file: nothing can be loaded, and nothing is lost.
func TestABrokenConfigurationOfTheOwner(t *testing.T) {
	b := newBox(t)
	at := local(t)
	before := b.apply(set(t, service(t, "web", "one", at)))
	owners, err := os.ReadFile(filepath.Join(b.dir, "nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	b.write("nginx.conf", append(owners, "mistake;\n"...))
	e := b.fails(CodeMachine, b.order(set(t, service(t, "web", "two", at))))
	if !strings.HasPrefix(e.Message, "nginx takes no change on this host, since it refuses what its owner has written: ") ||
		!strings.Contains(e.Message, `unknown directive "mistake" in `+b.dir+"/nginx.conf:") {
		t.Errorf("message: %s", e.Message)
	}
	// What is wrong with the change is not the owner's fault, whatever else is.
	main, err := fileset.NewFile("main.conf", []byte("nonsense;\n"))
	if err != nil {
		t.Fatal(err)
	}
	bad, err := fileset.New(main, service(t, "web", "two", at))
	if err != nil {
		t.Fatal(err)
	}
	b.fails(CodeRolledBack, b.order(bad))
	b.consistent(before.Live)
	b.says(at, "one")
	b.write("nginx.conf", owners)
	b.apply(set(t, service(t, "web", "two", at)))
	b.says(at, "two")
}

// What passes the check can fail at a reload: a port of the owner's that another program has.
func TestAPortOfTheOwnersThatIsTaken(t *testing.T) {
	b := newBox(t)
	at := local(t)
	before := b.apply(set(t, service(t, "web", "one", at)))
	owners, err := os.ReadFile(filepath.Join(b.dir, "nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	text, found := strings.CutSuffix(strings.TrimSpace(string(owners)), "}") // of the http block
	if !found {
		t.Fatal(text)
	}
	b.write("nginx.conf", fmt.Appendf(nil, "%s server { listen %s; } }\n", text, taken.Addr()))
	e := b.fails(CodeMachine, b.order(set(t, service(t, "web", "two", at))))
	if !strings.Contains(e.Message, "it refuses what its owner has written: ") || !strings.Contains(e.Message, taken.Addr().String()) {
		t.Errorf("message: %s", e.Message)
	}
	b.consistent(before.Live)
	b.says(at, "one")
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	b.apply(set(t, service(t, "web", "two", at)))
	b.says(at, "two")
}

// A daemon that does not answer in time says nothing of its owner: a change may do that, too.
func TestADaemonThatIsFrozen(t *testing.T) {
	b := newBox(t)
	at := local(t)
	before := b.apply(set(t, service(t, "web", "one", at)))
	master, _ := engine.Children(b.in("pid"), "nginx: master", "nginx: worker process")
	b.nginx().ProofTimeout = engine.Duration(time.Second)
	if err := syscall.Kill(master, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b.fails(CodeRolledBack, b.order(set(t, service(t, "web", "two", at))))
	if err := syscall.Kill(master, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	b.consistent(before.Live)
	b.apply(set(t, service(t, "web", "two", at)))
	b.says(at, "two")
}

func TestADeadDaemon(t *testing.T) {
	b := newBox(t)
	at := local(t)
	before := b.apply(set(t, service(t, "web", "one", at)))
	d := b.order(set(t, service(t, "web", "two", at)))
	b.stop()
	if e := b.fails(CodeMachine, d); !strings.Contains(e.Message, "nginx does not run: start it") {
		t.Errorf("message: %s", e.Message)
	}
	st := b.status()
	if st.running || st.proved || st.generation != "" || !strings.Contains(st.message, "nginx does not run") || !strings.HasPrefix(st.version, "nginx/") {
		t.Errorf("status: %+v", st)
	}
	b.start()
	b.consistent(before.Live)
	b.says(at, "one")
}

// Whoever kills nginx can start it again.
func TestAKilledDaemonStartsAgain(t *testing.T) {
	b := newBox(t)
	at := local(t)
	before := b.apply(set(t, service(t, "web", "one", at)))
	_, workers := engine.Children(b.unit.daemon.PIDFile(), "nginx: master", "nginx: worker process")
	if err := b.daemon.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-b.ended
	for _, pid := range workers {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Fatal(err)
		}
	}
	wait.True(b, "the port is free", func() bool { return hear(at) == "" })
	b.start()
	b.consistent(before.Live)
	b.says(at, "one")
}

// The machine loses power between swap and proof: it comes back with what was proved.
func TestS35_PowerFailureAfterTheSwap(t *testing.T) {
	b := newBox(t)
	at := local(t)
	before := b.apply(set(t, service(t, "web", "one", at)))
	crashed, err := b.applyAndCrash("reload", b.order(set(t, service(t, "web", "two", at))))
	if !crashed {
		t.Fatal(err)
	}
	b.stop()
	b.take(b.newAgent(""))
	if st := b.status(); st.running || st.proved {
		t.Errorf("%+v", st)
	}
	b.start()
	b.consistent(before.Live)
	b.says(at, "one")
}

func TestAFullDisk(t *testing.T) {
	root := t.TempDir()
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	b := newBoxIn(t, root, 512)
	at := local(t)
	before := b.apply(set(t, service(t, "web", "one", at)))
	big := fragment(t, "big", "server { listen "+at.String()+"; return x; }"+strings.Repeat("# much\n", 1<<16), at)
	e := b.fails(CodeMachine, b.order(set(t, big)))
	if !strings.Contains(e.Message, "the disk that holds "+b.unit.dir+" is full") {
		t.Errorf("message: %s", e.Message)
	}
	b.consistent(before.Live)
	b.says(at, "one")
	b.apply(set(t, service(t, "web", "two", at)))
	b.says(at, "two")
}

func TestTamperingIsSeenAndUndone(t *testing.T) {
	b := newBox(t)
	at := local(t)
	want := set(t, service(t, "web", "one", at), service(t, "other", "other", local(t)))
	live := b.unit.dir + "/live/"
	for name, tamper := range map[string]func() error{
		"changed": func() error {
			return os.WriteFile(live+"services/web.conf", []byte(strings.Replace(string(service(t, "web", "one", at).Data), "one", "two", 1)), 0o644)
		},
		"removed": func() error { return os.Remove(live + "services/web.conf") },
		"added":   func() error { return os.WriteFile(live+"services/Mine.conf", nil, 0o644) },
		"linked": func() error {
			return errors.Join(os.Remove(live+"services/web.conf"), os.Symlink("/etc/passwd", live+"services/web.conf"))
		},
		"the index":       func() error { return os.WriteFile(live+"../"+indexFile, []byte("{"), 0o644) },
		"same times":      func() error { return tamperQuietly(live + "services/web.conf") },
		"everything gone": func() error { return os.RemoveAll(live + "services") },
	} {
		b.apply(want)
		if err := tamper(); err != nil {
			t.Fatal(err)
		}
		if st := b.status(); st.proved || st.generation != want.Digest() {
			t.Errorf("%s: proved %t, live %s, want it to be %s and not proved", name, st.proved, st.generation, want.Digest())
		}
		b.apply(want)
		b.says(at, "one")
	}
}

// tamperQuietly changes a file and leaves its size and time of modification.
func tamperQuietly(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(path, []byte(strings.Replace(string(data), "one", "two", 1)), 0o644),
		os.Chtimes(path, time.Time{}, info.ModTime()))
}

func TestAPortThatIsTaken(t *testing.T) {
	b := newBox(t)
	at, fine := local(t), local(t)
	release := taken(t, at.String())
	all := set(t, service(t, "web", "web", at), service(t, "fine", "fine", fine))
	out := b.apply(all)
	if len(out.Refused) != 1 || !strings.HasPrefix(out.Refused[0].Reason, "tcp "+at.String()+" is taken by host.test, which listens on "+at.String()) {
		t.Fatalf("refused: %+v", out.Refused)
	}
	b.says(fine, "fine")
	release()
	if out = b.apply(all); len(out.Refused) != 0 || out.Live != all.Digest() {
		t.Fatalf("outcome: %+v", out)
	}
	b.says(at, "web")
}

// Somebody takes the port after the probe: nginx finds it, and the others go live.
func TestAPortThatIsTakenAtTheLastMoment(t *testing.T) {
	b := newBox(t)
	at, fine := local(t), local(t)
	b.unit.at = func(step string) {
		if step == "swap" {
			b.unit.at = func(string) {}
			taken(t, at.String())
		}
	}
	out := b.apply(set(t, service(t, "web", "web", at), service(t, "fine", "fine", fine)))
	if len(out.Refused) != 1 || !strings.Contains(out.Refused[0].Reason, "is taken by host.test") {
		t.Fatalf("refused: %+v", out.Refused)
	}
	b.says(fine, "fine")
}

// taken lets another program listen.
func taken(t *testing.T, at string) (release func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "EXTERNAL_LB_TEST_TAKER="+at)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	release = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // it may have ended already
		_ = cmd.Wait()         // with the signal
	})
	t.Cleanup(release)
	said := make([]byte, 100)
	if n, err := out.Read(said); err != nil || string(said[:n]) != "ready\n" {
		t.Fatalf("%s: %v", said[:n], err)
	}
	return release
}

func TestWhoeverHangsUpWhileWaitingChangesNothing(t *testing.T) {
	b := newBox(t)
	s, err := openStore(b.unit.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	unlock, err := s.lock(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	o := b.order(set(t))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.unit.apply(ctx, o); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error: %v", err)
	}
	unlock()
	b.consistent(fileset.Manifest{}.Digest())
}

// The power fails between a swap and its proof. What was proved last is in its place before
// the daemon starts again; one that runs is left to who can ask it.
func TestS35_TheLastGoodFilesAreThereBeforeTheDaemonStarts(t *testing.T) {
	for _, step := range []string{"prepare", "swap", "reload", "commit"} {
		t.Run(step, func(t *testing.T) {
			b := newBox(t)
			at := local(t)
			b.apply(set(t, service(t, "web", "one", at)))
			if crashed, err := b.applyAndCrash(step, b.order(set(t, service(t, "web", "two", at)))); !crashed {
				t.Fatalf("the step did not come: %v", err)
			}
			s, err := openStore(b.unit.dir)
			if err != nil {
				t.Fatal(err)
			}
			defer s.close()
			live := s.linked(engine.LiveLink)
			if err := b.agent.Restore(t.Context()); err != nil || s.linked(engine.LiveLink) != live {
				t.Errorf("while the daemon runs: %s is live, %v", s.linked(engine.LiveLink), err)
			}
			b.stop()
			wait.True(b, "the daemon has ended", func() bool { running, _ := b.unit.daemon.Processes(0); return !running })
			if err := b.agent.Restore(t.Context()); err != nil {
				t.Error(err)
			}
			b.start()
			b.consistent(set(t, service(t, "web", "one", at)).Digest())
			b.says(at, "one")
		})
	}
}
