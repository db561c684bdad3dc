package transport

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/deliver"
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

// Clouds ask for a moment now and then: that is no news, and what lasts is.
func TestQuiet_IsToldWhenItLasts(t *testing.T) {
	w := newWorld(t)
	c := w.conn.(*conn)
	throttled := func(seconds int32) {
		_ = c.rests(&provider.Error{Code: provider.Throttled, Message: "slow down", RetryAfterSeconds: seconds})
	}
	told := func(after time.Duration) string { return c.quiet.words(time.Now().Add(after)) }
	throttled(60)
	if words := told(0); words != "" || c.resting() == nil {
		t.Errorf("a minute is told: %q", words)
	}
	c.quiet.since = c.quiet.since.Add(-10 * time.Minute) // and so each minute for ten
	throttled(60)
	if words := told(0); !strings.Contains(words, "slow down") {
		t.Errorf("ten minutes are not told: %q", words)
	}
	if words := told(2 * time.Minute); words != "" {
		t.Errorf("it may be read, and says %q", words)
	}
	c.quiet.until = time.Now()
	w.applied(config()) // reads it
	throttled(60)
	if words := told(0); words != "" {
		t.Errorf("a minute after it was read is told: %q", words)
	}
	throttled(3600)
	if words := told(0); !strings.Contains(words, "slow down") {
		t.Errorf("an hour is not told: %q", words)
	}
}

// Who has just begun, and meets a cloud that asks for some time, knows nothing yet. That is no fault.
func TestStatus_WaitsForACloudThatWasNeverRead(t *testing.T) {
	for _, c := range []struct {
		code   provider.Code
		reason deliver.Reason
	}{{provider.Throttled, deliver.ReasonThrottled}, {provider.Internal, ""}} {
		w := newWorld(t)
		w.Lock()
		w.ListFault = func() error { return &provider.Error{Code: c.code, Message: "the cloud's words"} }
		w.Unlock()
		_, err := w.conn.Status(t.Context())
		var reason deliver.Reason
		if e, ok := errors.AsType[*deliver.Error](err); ok {
			reason = e.Reason
		}
		if err == nil || reason != c.reason || !strings.Contains(err.Error(), "the cloud's words") {
			t.Errorf("%s: %q, %v", c.code, reason, err)
		}
	}
}

// The same where it does not even say what it can do.
func TestDial_WaitsForACloudThatAsksForTime(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTooManyRequests)
		_ = json.NewEncoder(w).Encode(provider.Error{Code: provider.Throttled, Message: "slow down", RetryAfterSeconds: 60}) // who does not hear it says so
	}))
	defer server.Close()
	_, err := Dialer{}.Dial(t.Context(), deliver.Target{Balancer: "edge", Cluster: "c1", Provider: &deliver.Provider{URL: server.URL, Token: []byte("secret")}})
	if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Reason != deliver.ReasonThrottled || !strings.Contains(e.Message, "slow down") {
		t.Errorf("%+v", err)
	}
}
