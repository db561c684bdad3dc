package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/importer"
)

// What is included is read as far as all files together may be large, whatever their number.
func TestImport_FilesAreBoundedTogether(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		file := filepath.Join(dir, fmt.Sprintf("%d.conf", i))
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(file, importer.MaxBytes/2); err != nil {
			t.Fatal(err)
		}
	}
	files, err := includes(dir)("[01].conf")
	if err != nil || len(files) != 2 {
		t.Errorf("%d files, %v", len(files), err)
	}
	if _, err := includes(dir)("*.conf"); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("three that are too large together: %v", err)
	}
}
