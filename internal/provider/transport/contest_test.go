package transport

import (
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/provider"
)

// Who fights for the same load balancers is noticed; who mends one by hand is not, and neither
// is a cloud whose load balancers fail.
func TestContest_IsSeenByWhatIsOverwritten(t *testing.T) {
	w := newWorld(t)
	cfg := config(service("web", 30080))
	w.applied(cfg)
	contested := func() string { return w.conn.(*conn).Contested() }
	overwrite := func() {
		w.Lock()
		defer w.Unlock()
		for id, s := range w.All {
			s.Listeners = append([]provider.Listener{}, s.Listeners...)
			s.Listeners[0].NodePort = 30099
			w.All[id] = s
		}
	}
	for i := range contestedOften {
		if why := contested(); why != "" {
			t.Fatalf("after %d times: %s", i, why)
		}
		overwrite()
		w.status()
		w.applied(cfg)
	}
	if why := contested(); !strings.Contains(why, "such as that of Service default/web") {
		t.Errorf("%q", why)
	}
	w.dial()
	if why := contested(); why != "" {
		t.Errorf("a new connection has to see it anew: %s", why)
	}
	w.applied(cfg)
	for range contestedOften + 1 {
		w.Fails = true
		w.status()
		w.Fails = false
		w.applied(cfg)
	}
	if why := contested(); why != "" {
		t.Errorf("it failed, and nobody changed it: %s", why)
	}
}

// What is long ago is not counted.
func TestContest_TimesThatAreFarApart(t *testing.T) {
	var c contest
	start := time.Unix(0, 0)
	for i := range 10 {
		c.overwritten(start.Add(time.Duration(i)*contestedFor*6/10), provider.LoadBalancer{Service: "uid"})
	}
	if c.why != "" || len(c.at["uid"]) > 2 {
		t.Errorf("%+v", c)
	}
}
