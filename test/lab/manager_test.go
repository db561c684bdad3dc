package lab

import (
	"path/filepath"
	"strings"
	"testing"
)

// A manager that ends is not ready, also where it ends well.
func TestAManagerThatEndsIsNotReady(t *testing.T) {
	m := &Manager{LogFile: filepath.Join(t.TempDir(), "manager.log"), exited: make(chan error, 1)}
	m.exited <- nil
	if err := m.waitReady(t.Context(), "http://127.0.0.1:0/readyz"); err == nil || !strings.Contains(err.Error(), "the manager ended") {
		t.Errorf("got %v", err)
	}
}
