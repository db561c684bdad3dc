package documents

import (
	"bytes"
	"testing"
)

// FuzzSplit: a document's line is where its first bytes are.
func FuzzSplit(f *testing.F) {
	f.Add([]byte("# a\n---\n{\"kind\": 1}\n{}\n--- # b\n- c"))
	f.Add([]byte("{a: b}\n---\n---x"))
	f.Add([]byte("kind: A\r\n---\r\n\n# x\nkind: B\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		lines := bytes.Split(data, []byte("\n"))
		for _, d := range Split(data) {
			if d.Line < 1 || d.Line > len(lines)+1 {
				t.Fatalf("line %d of %d", d.Line, len(lines))
			}
			first, _, _ := bytes.Cut(d.Data, []byte("\n"))
			if len(first) > 0 && !bytes.Contains(lines[d.Line-1], first) {
				t.Fatalf("line %d is %q, not %q", d.Line, lines[d.Line-1], first)
			}
		}
	})
}
