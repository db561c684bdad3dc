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
