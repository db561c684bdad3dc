package haproxy

import (
	"context"
	"regexp"
	"strconv"

	"github.com/external-lb/external-lb/internal/engine"
)

var (
	currentConnections = regexp.MustCompile(`(?m)^CurrConns: ([0-9]{1,9})$`)
	maxConnections     = regexp.MustCompile(`(?m)^Maxconn: ([0-9]{1,9})$`)
	openFiles          = regexp.MustCompile(`(?m)^Ulimit-n: ([0-9]{1,9})$`)
)

// Uses asks HAProxy, which counts the connections of all its Services and the owner's.
func (h *Daemon) Uses(ctx context.Context, listeners, _, _ int) engine.Uses {
	text, err := h.tell(ctx, "show info")
	if err != nil {
		return engine.Uses{}
	}
	return usesOf(text, listeners)
}

func usesOf(info string, listeners int) engine.Uses {
	number := func(re *regexp.Regexp) int {
		m := re.FindStringSubmatch(info)
		if m == nil {
			return 0
		}
		n, _ := strconv.Atoi(m[1]) // digits
		return n
	}
	now := number(currentConnections)
	return engine.Uses{
		Connections: engine.Use{Used: now, Limit: number(maxConnections)},
		Files:       engine.Use{Used: 2*now + listeners, Limit: number(openFiles)},
	}
}
