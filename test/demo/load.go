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
}

// Clients at a time, and the pause of each between two requests: some hundred
// requests a second, which leaves the machine to what is shown.
const (
	clients = 8
	pause   = 20 * time.Millisecond
)

func startLoad(ctx context.Context, d *demo) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{cancel: cancel, byNode: map[string]int{}}
	for range clients {
		l.done.Go(func() {
			ticker := time.NewTicker(pause)
			defer ticker.Stop()
			for {
				answer, err := d.get(context.WithoutCancel(ctx))
				l.count(answer.Node, err)
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

func (l *load) count(node string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent++
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
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		l.mu.Lock()
		sent := l.sent
		l.mu.Unlock()
		if sent >= goal {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// stop ends the load and sums it up: requests, failures, and a line for each node.
func (l *load) stop() (sent int, failed []error, answers []string) {
	l.cancel()
	l.done.Wait()
	for _, node := range slices.Sorted(maps.Keys(l.byNode)) {
		answers = append(answers, fmt.Sprintf("%s answered %d requests", node, l.byNode[node]))
	}
	return l.sent, l.failed, answers
}
