package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/cli/documents"
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

// FuzzMetalLBDocument: what a List has is found as it is found alone, and nothing else is.
func FuzzMetalLBDocument(f *testing.F) {
	const pool = `{"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": {"name": "a"}, "spec": {"addresses": ["192.0.2.0/24"]}}`
	f.Add([]byte(pool))
	f.Add([]byte(`{"apiVersion": "v1", "kind": "List", "items": [` + pool + `, {"apiVersion": "v1", "kind": "Service"}, 7, null]}`))
	f.Add([]byte("apiVersion: metallb.io/v1beta1\nkind: IPAddressPoolList\nitems:\n- " + pool + "\n"))
	f.Add([]byte("kind: List\nitems: {a: b}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := metallbDocument(documents.Document{Line: 1, Data: data}, importer.Place{File: "a.yaml", Line: 1})
		if err != nil {
			return
		}
		for _, o := range all {
			alone, err := metallbDocument(documents.Document{Line: 1, Data: o.Data}, o.Place)
			if err != nil || len(all) > 1 && (len(alone) != 1 || !bytes.Equal(alone[0].Data, o.Data)) {
				t.Errorf("%s is found, and alone %q, %v", o.Data, alone, err)
			}
		}
	})
}
