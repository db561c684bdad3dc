package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// load sends requests, each over a connection of its own, until it is stopped.
type load struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex
	sent   int
	failed []error
	byNode map[string]int
	ended  [clients]int // requests of each client
}

// Clients at a time, and the pause of each between two requests: some hundred
// requests a second, which leaves the machine to what is shown.
const (
	clients = 8
	pause   = 20 * time.Millisecond
)

func startLoad(ctx context.Context, ask asking) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{cancel: cancel, byNode: map[string]int{}}
	for client := range clients {
		l.done.Go(func() {
			ticker := time.NewTicker(pause)
			defer ticker.Stop()
			for {
				answer, err := ask(context.WithoutCancel(ctx))
				l.count(client, answer.Node, err)
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
			}
		})
	}
	return l
}

func (l *load) count(client int, node string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent++
	l.ended[client]++
	if err != nil {
		l.failed = append(l.failed, err)
		return
	}
	l.byNode[node]++
}

// reach waits until so many more requests were sent.
func (l *load) reach(ctx context.Context, more int) error {
	l.mu.Lock()
	goal := l.sent + more
	l.mu.Unlock()
	return l.until(ctx, func() bool { return l.sent >= goal })
}

// onTheirWayEnd waits until all requests have ended that were made until now: each client asks
// one after the other.
func (l *load) onTheirWayEnd(ctx context.Context) error {
	l.mu.Lock()
	before := l.ended
	l.mu.Unlock()
	return l.until(ctx, func() bool {
		for client, n := range before {
			if l.ended[client] == n {
				return false
			}
		}
		return true
	})
}

func (l *load) until(ctx context.Context, is func() bool) error {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		l.mu.Lock()
		done := is()
		l.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// sumUp ends the load and says what became of it; a request that failed is an error.
func (l *load) sumUp() error {
	l.cancel()
	l.done.Wait()
	for _, node := range slices.Sorted(maps.Keys(l.byNode)) {
		say("%s answered %d requests", node, l.byNode[node])
	}
	if len(l.failed) > 0 {
		return fmt.Errorf("%d of %d requests failed; the first: %w", len(l.failed), l.sent, l.failed[0])
	}
	good("%d requests meanwhile, 0 failed", l.sent)
	return nil
}
