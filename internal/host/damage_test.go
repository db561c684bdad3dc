package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
)

// damages are what may be in the place of a file.
var damages = map[string]func(path string) error{
	"damaged":      func(path string) error { return os.WriteFile(path, []byte("{\"\x00"), 0o600) },
	"of zeroes":    func(path string) error { return os.WriteFile(path, make([]byte, 512), 0o600) },
	"empty":        func(path string) error { return os.WriteFile(path, nil, 0o600) },
	"of no record": func(path string) error { return os.WriteFile(path, []byte("null"), 0o600) },
	"too large": func(path string) error {
		return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, maxRecord+1))
	},
	"a directory": func(path string) error {
		return errors.Join(os.Mkdir(path, 0o700), os.WriteFile(filepath.Join(path, "file"), nil, 0o600))
	},
	"gone":                  func(string) error { return nil },
	"a link":                func(path string) error { return os.Symlink("lock", path) },
	"a link that leads out": func(path string) error { return os.Symlink("/etc/passwd", path) },
	"a pipe":                func(path string) error { return syscall.Mkfifo(path, 0o600) },
}

// damage puts something in the place of a file.
func (b *box) damage(path string, do func(string) error) {
	b.Helper()
	if err := errors.Join(os.RemoveAll(path), do(path)); err != nil {
		b.Fatal(err)
	}
}

// Whatever is in the place of a file that the host can do without or makes anew, the next delivery goes
// through, and nothing is withdrawn for it.
func TestDamage_TheNextDeliveryMends(t *testing.T) {
	b := newBox(t)
	at := public(t)
	model := func(names ...string) func() string {
		return func() string { return filepath.Join(append([]string{b.agent.settings.modelDir()}, names...)...) }
	}
	unit := func(names ...string) func() string {
		return func() string { return filepath.Join(append([]string{b.unit.dir}, names...)...) }
	}
	item := func() string {
		all, err := filepath.Glob(filepath.Join(b.agent.settings.modelDir(), itemsDir, "*"))
		if err != nil || len(all) == 0 {
			t.Fatalf("%v, %v", all, err)
		}
		return all[0]
	}
	live := func(name string) func() string {
		return func() string {
			target, err := os.Readlink(filepath.Join(b.unit.dir, engine.LiveLink))
			if err != nil {
				t.Fatal(err)
			}
			return filepath.Join(b.unit.dir, filepath.Dir(target), name)
		}
	}
	groups := map[string][]func() string{
		"of the model": {
			model(wantedFile), model(outcomeFile), model(templatesFile), model(wantedFile + tmpSuffix), model(modelState + tmpSuffix),
		},
		"of the daemon": {
			unit(stateFile), unit(nextStateFile), unit(stateFile + tmpSuffix), unit(engine.CandidateLink), unit(nextLink), unit(engine.BackLink),
		},
		"of what is live": {live(indexFile), live(filePath(b.unit.daemon.OwnFile())), item},
	}
	text := "one"
	for group, files := range groups {
		for kind, do := range damages {
			t.Run(group+" "+kind, func(t *testing.T) {
				outer := b.T
				defer func() { b.T = outer }()
				b.T = t
				b.send(wants(b.node(), b.web("web", text, at)))
				for _, file := range files {
					b.damage(file(), do)
				}
				b.take(b.newAgent(""))
				text = group + " " + kind
				b.carriesNow(b.send(wants(b.node(), b.web("web", text, at))), "web")
				b.says(at, text)
			})
		}
	}
}

// A record of who delivers that is damaged lets nobody deliver, also who has led before: only root says who
// may. Meanwhile all that is live goes on.
func TestDamage_OfWhoDelivers(t *testing.T) {
	b := newBox(t)
	at := public(t)
	path := filepath.Join(b.agent.settings.modelDir(), modelState)
	for kind, do := range damages {
		if _, _, err := b.agent.ResetTerm(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		b.send(wants(b.node(), b.web("web", "one", at)))
		b.takes(b.from("our-uid", Epoch{7, 1}))
		wanted := b.look().Wanted.Digest()
		for _, running := range []bool{true, false} {
			b.damage(path, do)
			if !running {
				b.take(b.newAgent(""))
			}
			for _, d := range []Delivery{
				{Cluster: "our-uid", Epoch: Epoch{6, 1}, Base: wanted, Want: wanted}, {Cluster: "our-uid", Epoch: Epoch{8, 1}, Base: wanted, Want: wanted},
				{Cluster: "their-uid", Epoch: Epoch{1, 1}, Base: wanted, Want: wanted}, {Owner: true, Base: wanted, Want: wanted},
			} {
				said := b.failsToTake(CodeMachine, d).Message
				if !strings.Contains(said, path) || !strings.Contains(said, "it is damaged: run `external-lb host install` on this machine as root") {
					t.Errorf("%s: %s", kind, said)
				}
				if _, err := b.agent.Render(t.Context(), d); errorCode(err) != CodeMachine {
					t.Errorf("%s: it shows what it would render: %v", kind, err)
				}
			}
			if seen, err := b.agent.Observe(t.Context()); errorCode(err) != CodeMachine {
				t.Errorf("%s: it tells what it sees: %+v, %v", kind, seen, err)
			}
			if st := b.look(); !strings.Contains(st.Message, "it is damaged") || st.Wanted.Len() > 0 {
				t.Errorf("%s: %+v", kind, st)
			}
			b.says(at, "one")
		}
		if err := os.RemoveAll(path + damagedSuffix); err != nil {
			t.Fatal(err)
		}
		lost, aside, err := b.newAgent("").ResetTerm(t.Context(), "our-uid")
		if err != nil || !lost || (aside == path+damagedSuffix) == (kind == "gone") {
			t.Fatalf("%s: %t, %q, %v", kind, lost, aside, err)
		}
		if _, err := os.Lstat(path + damagedSuffix); (err == nil) != (aside != "") {
			t.Errorf("%s: %q is said to be kept: %v", kind, aside, err)
		}
		if st := b.look(); st.Cluster != "our-uid" || st.Wanted.Digest() != wanted || !st.Proved {
			t.Errorf("%s: %+v", kind, st)
		}
		b.failsToTake(CodeOtherCluster, b.from("their-uid", Epoch{1, 1}))
		b.takes(b.from("our-uid", Epoch{1, 1}))
		b.says(at, "one")
	}
	all, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"+damagedSuffix+"*"))
	if err != nil || len(all) > 1 {
		t.Errorf("%q are kept, %v", all, err)
	}
	if lost, aside, err := b.agent.ResetTerm(t.Context(), ""); err != nil || lost || aside != "" {
		t.Errorf("of a sound one, %t, %q is kept: %v", lost, aside, err)
	}
}

// Where a folder or the lock is something else, nobody can deliver, and each is told what to run. That
// mends it, and takes nothing away.
func TestDamage_OfWhatMustBeThere(t *testing.T) {
	b := newBox(t)
	at := public(t)
	modelDir := b.agent.settings.modelDir()
	for _, name := range []string{filepath.Join(modelDir, lockFile), filepath.Join(b.unit.dir, lockFile), filepath.Join(modelDir, itemsDir)} {
		kinds := []string{"empty", "a link", "a link that leads out", "a pipe"}
		if filepath.Base(name) == lockFile {
			kinds = append(kinds[1:], "a directory")
		}
		for _, kind := range kinds {
			b.send(wants(b.node(), b.web("web", "one", at)))
			b.damage(name, damages[kind])
			b.take(b.newAgent(""))
			b.seq++
			if said := b.failsToTake(CodeMachine, b.from("", Epoch{1, b.seq})).Message; !strings.Contains(said, name) || !strings.Contains(said, "external-lb host install") {
				t.Errorf("%s is %s: %s", name, kind, said)
			}
			if b.agent.initialised() && b.unit.initialised() {
				t.Errorf("%s is %s, and the machine counts as prepared", name, kind)
			}
			b.initialise()
			b.says(at, "one")
			b.send(wants(b.node(), b.web("web", "one", at)))
			if info, err := os.Lstat(name + damagedSuffix); err != nil {
				t.Errorf("%s is %s, and not kept: %v, %v", name, kind, info, err)
			}
		}
	}
}

// The link that the daemon includes may be a copy of what it led to.
func TestDamage_OfWhatIsLive(t *testing.T) {
	b := newBox(t)
	at := public(t)
	b.send(wants(b.node(), b.web("web", "one", at)))
	link := filepath.Join(b.unit.dir, engine.LiveLink)
	copied := filepath.Join(b.dir, "copy")
	if err := os.CopyFS(copied, os.DirFS(link)); err != nil {
		t.Fatal(err)
	}
	b.damage(link, func(path string) error { return os.CopyFS(path, os.DirFS(copied)) })
	b.take(b.newAgent(""))
	b.send(wants(b.node(), b.web("web", "two", at)))
	b.says(at, "two")
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("%v, %v", info, err)
	}
}

// Who prepares the machine anew while its daemon runs takes nothing away: what is live stays, or else what
// the next delivery makes anew.
func TestDamage_InstallTakesNothingAway(t *testing.T) {
	b := newBox(t)
	at := public(t)
	path := func(names ...string) string { return filepath.Join(append([]string{b.unit.dir}, names...)...) }
	state := func() string { return path(stateFile) }
	own := func() string { return path(engine.LiveLink, b.unit.daemon.OwnFile()) }
	nothing := func() error { return nil }
	interrupted := func() error { return os.WriteFile(path(nextStateFile), []byte("{"), 0o644) }
	unlinked := func() error { return os.Remove(path(engine.LiveLink)) }
	for name, c := range map[string]struct {
		files []func() string
		also  func() error
	}{
		"state":                            {[]func() string{state}, nothing},
		"own file":                         {[]func() string{own}, nothing},
		"both":                             {[]func() string{state, own}, nothing},
		"own file, interrupted":            {[]func() string{own}, interrupted},
		"own file, and nothing is live":    {[]func() string{own}, unlinked},
		"state, and a delivery was staged": {[]func() string{state}, interrupted},
	} {
		for _, kind := range []string{"damaged", "gone"} {
			t.Run(name+" "+kind, func(t *testing.T) {
				outer := b.T
				defer func() { b.T = outer }()
				b.T = t
				b.send(wants(b.node(), b.web("web", "before", at)))
				b.send(wants(b.node(), b.web("web", "one", at)))
				live, err := os.Readlink(path(engine.LiveLink))
				if err != nil {
					t.Fatal(err)
				}
				for _, file := range c.files {
					b.damage(file(), damages[kind])
				}
				if err := c.also(); err != nil {
					t.Fatal(err)
				}
				b.take(b.newAgent(""))
				b.initialise()
				if now, err := os.Readlink(path(engine.LiveLink)); err != nil || now != live || !b.unit.initialised() {
					t.Errorf("live is %s, not %s, %v; prepared: %t", now, live, err, b.unit.initialised())
				}
				b.initialise() // and again
				b.says(at, "one")
				b.take(b.newAgent(""))
				b.carriesNow(b.send(wants(b.node(), b.web("web", "two", at))), "web")
				b.says(at, "two")
			})
		}
	}
}

// Who prepares the machine anew gets a record of who delivers, and hears what is lost.
func TestDamage_IsMendedByInstall(t *testing.T) {
	onBareMachine(t, func(t *testing.T) {
		options := InstallOptions{AuthorizedKeys: []string{aKey}}
		install(t, options)
		settings, err := LoadSettings(SettingsPath, &engines.Table)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(settings.modelDir(), modelState)
		for _, gone := range []bool{true, false} {
			if gone { // of a machine that was delivered to
				put(t, filepath.Join(settings.modelDir(), wantedFile), "")
			} else {
				put(t, path, "")
			}
			for _, dry := range []bool{true, false} {
				options.DryRun = dry
				steps, err := Install(t.Context(), options, &engines.Table)
				if err != nil {
					t.Fatal(err)
				}
				i := slices.IndexFunc(steps, func(s Step) bool { return s.Name == "who delivers" })
				if i < 0 || (steps[i].Result == engine.StepDone) == dry || strings.Contains(steps[i].Detail, path+damagedSuffix) == gone || !strings.Contains(steps[i].Detail, "is lost") {
					t.Errorf("gone %t, dry %t: %+v", gone, dry, steps)
				}
				if _, err := os.Stat(path + damagedSuffix); (err == nil) == (dry || gone) {
					t.Errorf("gone %t, dry %t: %v", gone, dry, err)
				}
			}
		}
		if said := install(t, options)["who delivers"]; said != "" {
			t.Errorf("a second time: %s", said)
		}
		info, err := os.Stat(path)
		dir, dirErr := os.Stat(settings.modelDir())
		if err := errors.Join(err, dirErr); err != nil {
			t.Fatal(err)
		}
		if now, of := info.Sys().(*syscall.Stat_t), dir.Sys().(*syscall.Stat_t); now.Uid != of.Uid || info.Mode() != privateMode {
			t.Errorf("it is %d's, with %v, and the folder is %d's", now.Uid, info.Mode(), of.Uid)
		}
		if m, err := openModel(settings.modelDir()); err != nil || m.lost != nil || m.record != (modelRecord{}) {
			t.Errorf("%v, %+v", err, m)
		}
	})
}
