package transport

import (
	"strings"
	"testing"

	"github.com/external-lb/external-lb/provider"
)

// A cloud that says when it may be read again is not read before, by no look and by no delivery, but for one that
// changes something.
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
		if _, err := w.conn.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "slow down") {
			t.Errorf("a look: %v", err)
		}
		if _, err := w.apply(web); err == nil || !strings.Contains(err.Error(), "slow down") {
			t.Errorf("a delivery: %v", err)
		}
	}
	w.Lock()
	if asked != 1 {
		t.Errorf("it was read %d times", asked)
	}
	w.ListFault = nil
	w.Unlock()
	w.applied(config(service("web", 30081)))
	w.status()
}
