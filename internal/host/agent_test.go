package host

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/wait"
)

func TestTheModelOutlivesTheAgent(t *testing.T) {
	b := newBox(t)
	at := public(t)
	web := b.web("web", "one", at)
	before := b.send(wants(b.node(), web))
	if !before.Reloaded || len(before.Refused) > 0 || before.Live.Digest() != before.Wanted.Digest() {
		t.Fatalf("%+v", before)
	}
	b.says(at, "one")

	b.take(b.newAgent(""))
	b.proved(before)
	if out := b.send(wants(b.node(), web)); out.Reloaded || out.Generation != before.Generation {
		t.Errorf("an empty change: %+v", out)
	}
	if out := b.send(wants(b.node())); out.Live.Len() != 1 {
		t.Errorf("live: %v", out.Live)
	}
	b.says(at, "")
}

func TestS35_AStaleEpochChangesNothing(t *testing.T) {
	b := newBox(t)
	at := public(t)
	web := b.web("web", "one", at)
	b.send(wants(b.node()))
	d := b.delivery(encoded(t, wants(b.node(), web)))
	out, err := b.agent.Apply(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	stale := b.delivery(encoded(t, wants(b.node())))
	stale.Epoch = d.Epoch
	e := b.failsToTake(CodeStaleEpoch, stale)
	if want := "this machine has taken epoch 1.2, and 1.2 is not newer: somebody else leads"; e.Message != want {
		t.Errorf("message %q, want %q", e.Message, want)
	}
	b.proved(out)
	b.take(b.newAgent(""))
	b.failsToTake(CodeStaleEpoch, stale)
	if got := b.look().Epoch; got != d.Epoch {
		t.Errorf("epoch %s", got)
	}
	b.says(at, "one")
}

func TestAWrongBaseChangesNothing(t *testing.T) {
	b := newBox(t)
	at := public(t)
	out := b.send(wants(b.node(), b.web("web", "one", at)))
	other := encoded(t, wants(b.node()))
	for name, change := range map[string]func(*Delivery){
		"base":   func(d *Delivery) { d.Base = "0123" },
		"target": func(d *Delivery) { d.Want = "0123" },
		"a key":  func(d *Delivery) { d.Change.Put = append(d.Change.Put, lb.NewItem("node/x\ny", nil)) },
	} {
		d := b.delivery(other)
		change(&d)
		code := CodeBaseMismatch
		if name == "a key" {
			code = CodeMachine
		}
		b.failsToTake(code, d)
		b.proved(out)
	}
	b.says(at, "one")
}

// sendAndCrash delivers until a step, and wants that step to come.
func (b *box) sendAndCrash(step string, d Delivery) {
	b.Helper()
	dying := b.newAgent("")
	dying.units[0].at = func(s string) {
		if s == step {
			panic(crash{s})
		}
	}
	b.crashes(dying, d)
}

// crashes: an agent dies of a delivery.
func (b *box) crashes(dying *Agent, d Delivery) {
	b.Helper()
	defer func() {
		b.Helper()
		if c, ok := recover().(crash); !ok {
			b.Fatalf("the step did not come: %v", c)
		}
	}()
	_, _ = dying.Apply(b.Context(), d) // it crashes
}

// An agent that dies at any step leaves what was live or what is new. What was wanted
// before is the base of the next delivery, and its epoch is spent.
func TestS35_CrashOfTheAgentAtAnyStep(t *testing.T) {
	for step, after := range map[string]string{
		"take epoch": "old", "probe": "old", "check": "old", "prepare": "old", "swap": "old", "reload": "old", "commit": "new", "clean": "new",
	} {
		t.Run(step, func(t *testing.T) {
			b := newBox(t)
			at, second := public(t), public(t)
			web := b.web("web", "one", at)
			before := b.send(wants(b.node(), web))
			want := encoded(t, wants(b.node(), web, b.web("second", "two", second)))
			b.sendAndCrash(step, b.delivery(want))

			b.take(b.newAgent(""))
			st := b.look()
			if spent := st.Epoch.Seq == b.seq; st.Wanted.Digest() != before.Wanted.Digest() || spent == (step == "take epoch") {
				t.Errorf("epoch %s, wanted %v", st.Epoch, st.Wanted)
			}
			live := map[string]lb.Digest{"old": before.Live.Digest(), "new": want.Digest()}[after]
			if !st.Proved || st.Live.Digest() != live || st.Message != "" {
				t.Errorf("want what is %s to be live and proved: %+v", after, st)
			}
			b.says(at, "one")
			if out := b.sendItems(want); out.Reloaded != (after == "old") || out.Live.Digest() != want.Digest() {
				t.Errorf("%+v", out)
			}
			b.says(second, "two")
		})
	}
}

// The agent looks after what a crash has left, without being asked.
func TestWatchFinishesWhatACrashHasLeft(t *testing.T) {
	b := newBox(t)
	at := public(t)
	before := b.send(wants(b.node(), b.web("web", "one", at)))
	b.sendAndCrash("reload", b.delivery(encoded(t, wants(b.node()))))
	b.take(b.newAgent(""))
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() { b.agent.Watch(ctx) })
	link := filepath.Join(b.unit.dir, engine.CandidateLink)
	wait.True(b, "the debris is gone", func() bool {
		_, err := os.Lstat(link)
		return errors.Is(err, os.ErrNotExist)
	})
	cancel()
	watching.Wait()
	if st := b.look(); st.Live.Digest() != before.Live.Digest() || !st.Proved {
		t.Errorf("%+v", st)
	}
	b.says(at, "one")
}

// Another process has taken an epoch, and died before it did anything.
func TestAnEpochThatAnotherProcessHasTaken(t *testing.T) {
	b := newBox(t)
	b.send(wants(b.node()))
	text, err := json.Marshal(modelRecord{Epoch: Epoch{1, 9}})
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(b.agent.settings.modelDir(), modelState), string(text))
	b.failsToTake(CodeStaleEpoch, b.delivery(encoded(t, wants(b.node()))))
	b.seq = 9
	b.send(wants(b.node()))
}

func TestDeliveriesTakeTurns(t *testing.T) {
	b := newBox(t)
	at := public(t)
	web := b.web("web", "one", at)
	first, second := b.delivery(encoded(t, wants(b.node(), web))), b.delivery(encoded(t, wants(b.node(), changed(web, idle(time.Minute)))))
	var group sync.WaitGroup
	results := make([]error, 4)
	same := b.newAgent("")
	for i, d := range []Delivery{first, second, first, second} {
		agent := same
		if i > 1 { // in processes of their own
			agent = b.newAgent("")
		}
		group.Go(func() { _, results[i] = agent.Apply(t.Context(), d) })
	}
	group.Wait()
	// They start from one base: whichever comes first wins, and the others are told.
	ok := 0
	for _, err := range results {
		var coded *Error
		if err == nil {
			ok++
		} else if !errors.As(err, &coded) || (coded.Code != CodeStaleEpoch && coded.Code != CodeBaseMismatch) {
			t.Error(err)
		}
	}
	if ok != 1 {
		t.Errorf("%d of 4 went live: %v", ok, results)
	}
	b.seq = 2
	b.send(wants(b.node(), web))
	b.says(at, "one")
}

func TestWhoeverHangsUpWhileWaitingTakesNoEpoch(t *testing.T) {
	b := newBox(t)
	d := b.delivery(encoded(t, wants(b.node())))
	for name, hold := range map[string]func() func(){
		"this process": func() func() {
			release, err := b.agent.take(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return release
		},
		"another": func() func() {
			release, err := b.newAgent("").take(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return release
		},
	} {
		release := hold()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := b.agent.Apply(ctx, d); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		if !b.agent.Answers() {
			t.Error("it does not answer, though the delivery has only begun")
		}
		if b.agent.since.Load() != 0 {
			b.agent.since.Store(time.Now().Add(-2 * deliveryTime).Unix())
			if b.agent.Answers() {
				t.Error("it answers, though it is stuck")
			}
		}
		cancel()
		release()
		if st := b.look(); st.Epoch != (Epoch{}) {
			t.Errorf("%s: epoch %s was taken", name, st.Epoch)
		}
	}
	if !b.agent.Answers() {
		t.Error("it does not answer")
	}
}

// Somebody wants to know how the machine is while a delivery takes long.
func TestStatusDoesNotWaitForADelivery(t *testing.T) {
	for _, step := range []string{"take epoch", "check", "reload"} {
		t.Run(step, func(t *testing.T) {
			b := newBox(t)
			at := public(t)
			web := b.web("web", "one", at)
			before := b.send(wants(b.node(), web))
			there, goOn := make(chan bool), make(chan bool)
			b.unit.at = func(s string) {
				if s == step {
					there <- true
					<-goOn
				}
			}
			d := b.delivery(encoded(t, wants(b.node(), changed(web, idle(time.Minute)))))
			var group sync.WaitGroup
			var err error
			group.Go(func() { _, err = b.agent.Apply(t.Context(), d) })
			<-there
			for _, a := range []*Agent{b.agent, b.newAgent("")} {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				st, err := a.Status(ctx)
				cancel()
				if err != nil || !st.Running || step != "reload" && (!st.Proved || st.Live.Digest() != before.Live.Digest()) {
					t.Errorf("%+v, %v", st, err)
				}
			}
			b.unit.at = func(string) {} // no other step is waited for
			close(goOn)
			group.Wait()
			if err != nil {
				t.Error(err)
			}
			if st := b.look(); !st.Proved || st.Live.Digest() != d.Want {
				t.Errorf("%+v", st)
			}
		})
	}
}

// What the daemon could not be given is not wanted: it is sent again once it runs, and
// nothing is left of it until then.
func TestAModelForADeadDaemon(t *testing.T) {
	b := newBox(t)
	at := public(t)
	web := b.web("web", "one", at)
	b.send(wants(b.node()))
	b.stop()
	want := encoded(t, wants(b.node(), web))
	for range 2 {
		if e := b.failsToTake(CodeMachine, b.delivery(want)); !strings.Contains(e.Message, "nginx does not run: start it") {
			t.Errorf("message: %s", e.Message)
		}
	}
	items, err := os.ReadDir(filepath.Join(b.agent.settings.modelDir(), itemsDir))
	if err != nil || len(items) != 1 {
		t.Errorf("%d items are on the disk, %v", len(items), err)
	}
	st := b.look()
	if st.Running || st.Proved || st.Generation != "" || st.Wanted.Len() != 1 || st.Live.Len() != 1 || !strings.Contains(st.Message, "nginx does not run") {
		t.Errorf("%+v", st)
	}
	b.start()
	b.sendItems(want)
	b.says(at, "one")
}

// Whatever becomes of the files of the model, what is live goes on, and the next
// delivery finds its base.
func TestLostAndTamperedItems(t *testing.T) {
	items := func(b *box) []string {
		all, err := filepath.Glob(filepath.Join(b.agent.settings.modelDir(), itemsDir, "*"))
		if err != nil || len(all) != 3 {
			b.Fatal(all, err)
		}
		return all
	}
	model := func(b *box, name string) string { return filepath.Join(b.agent.settings.modelDir(), name) }
	for name, c := range map[string]struct {
		tamper func(b *box) error
		lost   bool
	}{
		"changed": {func(b *box) error { return os.WriteFile(items(b)[0], []byte("x"), 0o600) }, true},
		"removed": {func(b *box) error { return os.Remove(items(b)[1]) }, true},
		"all removed": {func(b *box) error {
			return errors.Join(os.RemoveAll(model(b, itemsDir)), os.Mkdir(model(b, itemsDir), 0o700))
		}, true},
		"linked": {func(b *box) error {
			item := items(b)[0]
			return errors.Join(os.Remove(item), os.Symlink("/etc/passwd", item))
		}, true},
		"manifest":      {func(b *box) error { return os.WriteFile(model(b, wantedFile), []byte("zz node/n1\n"), 0o600) }, true},
		"no manifest":   {func(b *box) error { return os.Remove(model(b, wantedFile)) }, true},
		"refusals":      {func(b *box) error { return os.WriteFile(model(b, outcomeFile), []byte("{"), 0o600) }, false},
		"templates":     {func(b *box) error { return os.WriteFile(model(b, templatesFile), []byte("{"), 0o600) }, false},
		"somebody's":    {func(b *box) error { return os.WriteFile(model(b, itemsDir+"/mine"), nil, 0o600) }, false},
		"half an item":  {func(b *box) error { return os.Truncate(items(b)[2], 3) }, true},
		"half a record": {func(b *box) error { return os.WriteFile(model(b, modelState+tmpSuffix), []byte("{"), 0o600) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			at, other := public(t), public(t)
			web, second := b.web("web", "one", at), b.web("second", "two", other)
			before := b.send(wants(b.node(), web, second))
			if err := c.tamper(b); err != nil {
				t.Fatal(err)
			}
			b.take(b.newAgent(""))
			st := b.look()
			if lost := st.Wanted.Len() == 0; lost != c.lost || !st.Proved || st.Live.Digest() != before.Live.Digest() || st.Message != "" {
				t.Errorf("%+v", st)
			}
			b.says(at, "one")
			if out := b.send(wants(b.node(), web, second)); out.Reloaded || out.Generation != before.Generation {
				t.Errorf("the same is sent again: %+v", out)
			}
			b.take(b.newAgent("")) // and now it is on the disk
			b.proved(before)
			items(b)
			b.send(wants(b.node(), changed(web, idle(time.Minute)), second))
			items(b)
		})
	}
}

// Files that somebody has changed are made anew from the model.
func TestTamperedFilesAreMadeAnew(t *testing.T) {
	b := newBox(t)
	at := public(t)
	web := b.web("web", "one", at)
	b.send(wants(b.node(), web))
	text := b.text(web)
	put(t, b.file(web), "# nothing\n")
	if b.look().Proved {
		t.Error("proved, though a file was changed")
	}
	if out := b.send(wants(b.node(), web)); !out.Reloaded {
		t.Errorf("%+v", out)
	}
	if b.text(web) != text {
		t.Error("the file is not as it was made")
	}
	b.says(at, "one")
}
