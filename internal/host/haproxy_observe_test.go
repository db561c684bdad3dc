package host

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/external-lb/external-lb/test/wait"
)

func TestHAProxy_TellsWhatItSees(t *testing.T) {
	c := newChecked(t)
	all := append(c.several(2), c.answers(silentNode(2), "node2"))
	c.carry(all, 0, 1, 2)
	var web, api Traffic
	wait.For(t, func(ctx context.Context) error {
		seen, err := c.agent.Observe(ctx)
		if err != nil || seen.Message != "" || len(seen.Traffic) != 2 {
			return fmt.Errorf("error %v, %+v", err, seen)
		}
		for _, s := range seen.Traffic {
			if s.Up != 2 || s.Down != 1 || len(s.Named) != 1 || s.Named[0].Node != "node2" || s.Named[0].For < 0 || s.Named[0].For > time.Hour {
				return fmt.Errorf("nodes of %s: %+v", s.Service, s.Judged)
			}
		}
		return nil
	})
	c.heard() // 40 connections to the api
	wait.For(t, func(ctx context.Context) error {
		seen, err := c.agent.Observe(ctx)
		if err != nil {
			return err
		}
		for _, s := range seen.Traffic {
			switch s.Service {
			case c.web.ID:
				web = s
			case c.api.ID:
				api = s
			}
		}
		if web.Listener != c.web.Frontends[0].Listener || web.Made != 0 || api.Made != 40 || api.Open != 0 || api.BytesOut != 40*int64(len("node0")) {
			return fmt.Errorf("web %+v, api %+v", web, api)
		}
		return nil
	})
}

// Who asks often costs the daemon no more.
func TestObserve_LooksOnlySoOften(t *testing.T) {
	b := newHAProxyBox(t)
	first, err := b.agent.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !b.agent.look.next.After(time.Now()) {
		t.Error("it would look again at once")
	}
	b.agent.look.next = time.Now().Add(time.Hour) // the daemon may take long to stop
	b.stop()
	again, err := b.agent.Observe(t.Context())
	if err != nil || again.Message != first.Message {
		t.Errorf("a moment later it looked again: %+v, %v", again, err)
	}
	b.agent.look.next = time.Time{}
	wait.For(t, func(ctx context.Context) error {
		seen, err := b.agent.Observe(ctx)
		if err != nil || seen.Message == "" {
			return fmt.Errorf("of a daemon that does not run: %+v, %v", seen, err)
		}
		return nil
	})
}
