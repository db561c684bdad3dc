package haproxy

import (
	"bufio"
	"context"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// A worker begins with servers that are up and that their first failed check takes
// down, whatever `fall` says: it has not counted any. That is soon after a node came,
// when kube-proxy may not know of its endpoints yet, or after a reload on a busy
// machine; and a node that is down gets connections again until it is checked. So a
// server that comes has all of its checks, and the others go on as they were.

// place is where a server is found again: the next worker may name it otherwise.
type place struct {
	proxy string
	at    netip.AddrPort
}

// allUp counts no failed check for a server any more.
func allUp(full string) string { return "set server " + full + " health up" }

// standings are those of all servers that are checked themselves.
func (h *Daemon) standings(ctx context.Context) (map[place]slot, error) {
	well, err := h.checkedSections()
	if err != nil {
		return nil, err
	}
	var commands []string
	for section := range well {
		commands = append(commands, "show servers state "+section)
	}
	all := map[place]slot{}
	for some := range batches(commands) {
		err := h.lines(ctx, func(line string) {
			if proxy, s, ok := parseServer(line); ok {
				s.failed = s.failed || s.health < well[proxy] // in a worker before that one
				all[place{proxy, s.at}] = s
			}
		}, some...)
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

var checks = regexp.MustCompile(` check inter \S+ rise (\d{1,4}) fall (\d{1,4})`)

// checkedSections are the sections of what is live whose servers are checked, with the
// health that HAProxy counts for one that has failed no check. It knows more sections: the
// owner's, and those of servers that follow others.
func (h *Daemon) checkedSections() (well map[string]int, err error) {
	f, err := os.Open(h.Live())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	well = map[string]int{}
	section, lines := "", bufio.NewScanner(f)
	for lines.Scan() {
		if kind, name, _ := strings.Cut(lines.Text(), " "); kind == "listen" || kind == "backend" {
			section = name
		}
		if m := checks.FindStringSubmatch(lines.Text()); m != nil && section != "" {
			rise, _ := strconv.Atoi(m[1])
			fall, _ := strconv.Atoi(m[2])
			well[section] = rise + fall - 1
		}
	}
	return well, lines.Err()
}

// goOn tells a worker that has just begun what the one before it knew.
func (h *Daemon) goOn(ctx context.Context, before map[place]slot) error {
	now, err := h.standings(ctx)
	if err != nil {
		return err
	}
	var commands []string
	for at, s := range now {
		full, was := at.proxy+"/"+s.name, before[at] // or one that comes
		switch {
		case s.maint:
		case was.down && !was.maint:
			commands = append(commands, "set server "+full+" health down")
		case !was.failed:
			commands = append(commands, allUp(full))
		}
	}
	return h.command(ctx, nil, commands...)
}
