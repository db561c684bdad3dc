package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/external-lb/external-lb/test/bench/report"
)

// measures are how suites are measured.
var measures = map[string]func(*bench, context.Context) error{
	"life":     (*bench).life,
	"start":    (*bench).start,
	"one":      (*bench).one,
	"memory":   (*bench).memory,
	"hosts":    (*bench).hosts,
	"load":     (*bench).load,
	"failover": (*bench).failOvers,
}

// names of all suites, in their order.
func names() (out []string) {
	for _, s := range report.Suites {
		out = append(out, s.Name)
	}
	return out
}

// size of a cluster. Of nodes, one is real.
type size struct{ services, nodes int }

func (s size) String() string { return fmt.Sprintf("%d Services x %d nodes", s.services, s.nodes) }

func parseSizes(list string) (out []size, err error) {
	if list == "" {
		return nil, nil
	}
	for _, text := range strings.Split(list, ",") {
		services, nodes, crossed := strings.Cut(text, "x")
		s := size{nodes: 1}
		if s.services, err = strconv.Atoi(services); err == nil && crossed {
			s.nodes, err = strconv.Atoi(nodes)
		}
		if err != nil || s.services < 1 || s.nodes < 1 {
			return nil, fmt.Errorf("size %q: want 1000 or 1000x100", text)
		}
		out = append(out, s)
	}
	return out, nil
}

// scale is at which sizes something is measured: always, and beside that with -full.
type scale struct{ usual, full []size }

func (s scale) of(o options) []size {
	switch {
	case o.sizes != nil:
		return o.sizes
	case o.full:
		return slices.Concat(s.usual, s.full)
	}
	return s.usual
}

// most Services of some sizes.
func most(sizes []size) (n int) {
	for _, s := range sizes {
		n = max(n, s.services)
	}
	return n
}

// scales of an engine, by suite.
type scales struct{ life, start, one, hosts, load scale }

var (
	proxies = scales{
		life:  scale{[]size{{100, 1}, {1000, 1}}, []size{{2500, 1}, {10_000, 1}}},
		start: scale{[]size{{1000, 1}}, []size{{10_000, 1}}},
		one:   scale{[]size{{1000, 10}, {1000, 100}}, []size{{5000, 100}, {1000, 1000}}},
		hosts: scale{[]size{{1000, 100}}, []size{{5000, 100}, {1000, 1000}}},
		load:  scale{[]size{{1000, 100}}, nil},
	}
	// machines are virtual, and several times slower.
	machines = scales{
		life:  scale{[]size{{100, 1}, {200, 1}}, []size{{1000, 1}}},
		start: scale{[]size{{200, 1}}, []size{{1000, 1}}},
		one:   scale{[]size{{200, 10}, {200, 100}}, []size{{1000, 100}}},
		hosts: scale{[]size{{200, 100}}, []size{{1000, 100}}},
		load:  scale{[]size{{200, 100}}, nil},
	}
	// memoryScale is of clusters without hosts, so the engine does not matter.
	memoryScale = scale{[]size{{1384, 1000}}, []size{{5000, 1000}, {10_000, 1000}}}
)
