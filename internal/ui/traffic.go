package ui

import (
	"context"
	"time"

	"github.com/external-lb/external-lb/internal/ui/page"
)

const (
	trafficEvery = 3 * time.Second  // between two looks at traffic, while somebody looks at it
	trafficAgain = 10 * time.Second // after one that failed
)

// followTraffic shows what hosts tell, until the context ends. Where nobody looks, nobody is
// asked.
func followTraffic(ctx context.Context, s *server, every time.Duration, ask func(context.Context) ([]page.Look, error)) {
	meter := page.NewMeter()
	for ctx.Err() == nil {
		if !s.places.any() {
			meter = page.NewMeter()
			s.hub.publish(ofTraffic, nil)
			s.places.await(ctx)
			continue
		}
		next := every
		looks, err := ask(ctx)
		if err == nil {
			var items []page.Item
			if items, err = meter.Items(looks); err == nil {
				s.hub.publish(ofTraffic, items)
			}
		}
		if err != nil && ctx.Err() == nil {
			next = trafficAgain
			s.hub.silent(err.Error())
		}
		pause(ctx, next)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
