package haproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

// maxStatistics is how many bytes of statistics are read: a line of some 400 for each
// node of each listener.
const maxStatistics = 64 << 20

// maxSeconds of a state that are told: a duration has room for no more than some times that.
const maxSeconds = 1 << 32

// Observe asks HAProxy for its statistics. They are Services times nodes, so they are
// summed up line by line.
func (h *Daemon) Observe(ctx context.Context, _ []engine.Carried) ([]engine.Traffic, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", h.Socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := io.WriteString(conn, "show stat\n"); err != nil {
		return nil, err
	}
	return parseStatistics(conn)
}

// parseStatistics reads lines of fields with commas between them, of which the first names
// the fields. No name that is looked for has a comma or a quote in it.
func parseStatistics(from io.Reader) ([]engine.Traffic, error) {
	bounded := &io.LimitedReader{R: from, N: maxStatistics}
	lines := bufio.NewScanner(bounded)
	if !lines.Scan() {
		return nil, errors.Join(errors.New("HAProxy has no statistics"), lines.Err())
	}
	at, err := columnsOf(lines.Text())
	if err != nil {
		return nil, err
	}
	var all []engine.Traffic
	index := map[string]int{} // in all, by the proxy's name; -1: it is not ours
	for lines.Scan() {
		fields := strings.Split(lines.Text(), ",")
		if len(fields) <= at.last {
			continue
		}
		i, known := index[fields[at.proxy]]
		if !known {
			i = -1
			if id, address, _, ok := engine.ParseFrontendName(fields[at.proxy]); ok {
				i = len(all)
				all = append(all, engine.Traffic{Carried: engine.Carried{
					Service: id, Listener: lb.Listener{Address: address.Addr(), Port: address.Port(), Protocol: lb.TCP},
				}})
			}
			index[strings.Clone(fields[at.proxy])] = i
		}
		if i >= 0 {
			at.add(&all[i], fields)
		}
	}
	if bounded.N <= 0 {
		return nil, fmt.Errorf("HAProxy has more than %d MiB of statistics: too many to look at", maxStatistics>>20)
	}
	return all, lines.Err()
}

// columns are where fields are: later versions have more of them.
type columns struct {
	proxy, server, status, changed, open, made, in, out, failed, last int
	refused                                                           [3]int
}

func columnsOf(header string) (c columns, err error) {
	names := strings.Split(strings.TrimPrefix(header, "# "), ",")
	find := func(name string) int {
		i := slices.Index(names, name)
		if i < 0 {
			err = fmt.Errorf("HAProxy's statistics have no %s", name)
		}
		c.last = max(c.last, i)
		return i
	}
	c.proxy, c.server, c.status, c.changed = find("pxname"), find("svname"), find("status"), find("lastchg")
	c.open, c.made, c.in, c.out, c.failed = find("scur"), find("stot"), find("bin"), find("bout"), find("econ")
	c.refused = [3]int{find("dcon"), find("dses"), find("dreq")}
	return c, err
}

// add what a line says.
func (c *columns) add(to *engine.Traffic, fields []string) {
	number := func(at int) int64 {
		n, _ := strconv.ParseInt(fields[at], 10, 64) // "": it has none of these
		return max(0, n)
	}
	switch fields[c.server] {
	case "FRONTEND":
		to.Open, to.Made, to.BytesIn, to.BytesOut = number(c.open), number(c.made), number(c.in), number(c.out)
		for _, at := range c.refused {
			to.Refused += number(at)
		}
	case "BACKEND":
		to.Failed = number(c.failed)
	default:
		// "UP", "UP 1/3" (about to be down), "DOWN", "DOWN 1/2", "NOLB", "no check", "MAINT (via …)"
		state, _, _ := strings.Cut(fields[c.status], " ")
		if node := fields[c.server]; lb.SafeNode(node) && (state == "UP" || state == "DOWN") {
			to.Judge(strings.Clone(node), state == "UP", time.Duration(min(number(c.changed), maxSeconds))*time.Second)
		}
	}
}
