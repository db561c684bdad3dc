package host

import (
	"os"
	"path/filepath"
	"testing"
)

// Who can read the lock's file can take the lock, and no delivery would come through.
func TestStore_TheLockIsTheAccountsAlone(t *testing.T) {
	for name, before := range map[string]os.FileMode{"new": 0, "for everybody to read": 0o644} {
		s, err := openStore(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		path := filepath.Join(s.dir, lockFile)
		if before != 0 {
			if err := os.WriteFile(path, nil, before); err != nil {
				t.Fatal(err)
			}
		}
		unlock, err := s.lock(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		unlock()
		if info, err := os.Stat(path); err != nil || info.Mode() != privateMode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

// A state that is damaged or gone is found again by what the daemon runs, or else, where its
// machine is prepared anew, by what is live: nothing is withdrawn for it.
func TestStore_ADamagedState(t *testing.T) {
	b := newBox(t)
	at := local(t)
	b.apply(set(t, service(t, "web", "one", at)))
	path := filepath.Join(b.unit.dir, stateFile)
	for _, name := range []string{"damaged", "empty", "gone"} {
		b.damage(path, damages[name])
		b.take(b.newAgent(""))
		b.consistent(b.status().generation)
		b.says(at, "one")

		b.stop()
		b.damage(path, damages[name])
		if c := b.status(); c.running || c.proved {
			t.Errorf("%s: %+v", name, c)
		}
		if b.unit.initialised() {
			t.Errorf("%s: it counts as prepared", name)
		}
		if err := b.unit.initialise(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		b.start()
		b.says(at, "one")
		b.apply(set(t, service(t, "web", "one", at)))
	}
}
