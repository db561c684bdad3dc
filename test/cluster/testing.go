package cluster

import (
	"bytes"
	"testing"
)

// New starts a cluster for one test, in a directory of the test's own, and stops it at its end. If the
// test fails, it logs the end of each daemon's log.
func New(t testing.TB, o Options) *Cluster {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	o.Log = logWriter{t}
	c, err := Start(t.Context(), o)
	if err != nil {
		t.Fatalf("start the test cluster: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for name := range c.now().Daemons {
				t.Logf("the end of %s's log:\n%s", name, c.tail(name))
			}
		}
		if err := c.Stop(); err != nil {
			t.Errorf("stop the test cluster: %v", err)
		}
	})
	return c
}

type logWriter struct{ t testing.TB }

func (w logWriter) Write(p []byte) (int, error) {
	w.t.Helper()
	w.t.Logf("%s", bytes.TrimRight(p, "\n"))
	return len(p), nil
}
