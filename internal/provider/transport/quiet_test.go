package transport

import (
	"strings"
	"testing"

	"github.com/external-lb/external-lb/provider"
)

// A cloud that says when it may be read again is not read before, by no look and by no delivery. What changes goes
// on without: what goes away is not to wait (S18).
func TestList_WaitsAsLongAsTheCloudSays(t *testing.T) {
	w := newWorld(t)
	web := config(service("web", 30080))
	w.applied(web)
	w.Lock()
	asked := 0
	w.ListFault = func() error {
		asked++
		return &provider.Error{Code: provider.Throttled, Message: "slow down", RetryAfterSeconds: 3600}
	}
	w.Unlock()
	for range 3 {
		if s, err := w.conn.Status(t.Context()); err != nil || !strings.Contains(s.Message, "slow down") {
			t.Errorf("a look: %q, %v", s.Message, err)
		}
		w.applied(web)
	}
	w.applied(config(service("web", 30081)))
	w.applied(config())
	w.Lock()
	defer w.Unlock()
	if asked != 1 || len(w.All) > 0 {
		t.Errorf("it was read %d times, and has %v", asked, w.All)
	}
}
