package ui

import (
	"context"
	"sync"
)

// places are the browser windows that are kept up to date: so many in all, and so many of
// one viewer.
type places struct {
	most, each int

	mu    sync.Mutex
	taken int
	of    map[string]int
	moved chan struct{} // closed when somebody comes or leaves
}

func newPlaces(most, each int) *places {
	return &places{most: most, each: each, of: map[string]int{}, moved: make(chan struct{})}
}

// take a place, until leave is called; full says why there is none.
func (p *places) take(viewer string) (leave func(), full string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.of[viewer] >= p.each:
		return nil, "you have too many pages open already: close one"
	case p.taken >= p.most:
		return nil, "too many pages are open already: close one"
	}
	p.add(viewer, 1)
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.add(viewer, -1)
	}), ""
}

func (p *places) add(viewer string, n int) {
	p.taken += n
	if p.of[viewer] += n; p.of[viewer] == 0 {
		delete(p.of, viewer)
	}
	close(p.moved)
	p.moved = make(chan struct{})
}

// any reports whether somebody looks.
func (p *places) any() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken > 0
}

// await somebody who looks; false: the context has ended.
func (p *places) await(ctx context.Context) bool {
	for {
		p.mu.Lock()
		taken, moved := p.taken, p.moved
		p.mu.Unlock()
		if taken > 0 {
			return true
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return false
		}
	}
}
