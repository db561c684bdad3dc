package haproxy

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
)

// slot is a server of a proxy as HAProxy has it.
type slot struct {
	name   string
	at     netip.AddrPort
	down   bool // by its check
	maint  bool
	failed bool // its last check
	health int  // as HAProxy counts it: up to rise + fall - 1
}

// slots are those of some proxies in one delivery, by the proxy's name. HAProxy is asked
// for them anew each time: it may have been started again, and no file says which slot has
// which node.
type slots map[string][]slot

// of a proxy: HAProxy is asked once. Who changes a slot notes it there.
func (known slots) of(ctx context.Context, proxy string, h *Daemon) ([]slot, error) {
	have, asked := known[proxy]
	if asked {
		return have, nil
	}
	have, err := h.slotsOf(ctx, proxy)
	if err == nil {
		known[proxy] = have
	}
	return have, err
}

// slotsOf asks HAProxy for the servers of a proxy.
func (h *Daemon) slotsOf(ctx context.Context, proxy string) ([]slot, error) {
	text, err := h.tell(ctx, "show servers state "+proxy)
	if err != nil {
		return nil, err
	}
	return parseSlots(text), nil
}

func parseSlots(text string) (all []slot) {
	for line := range strings.Lines(text) {
		if _, s, ok := parseServer(line); ok {
			all = append(all, s)
		}
	}
	return all
}

// parseServer reads "be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state …":
// srv_check_result is the 12th field, srv_check_health the 13th and srv_port the 19th.
func parseServer(line string) (proxy string, s slot, ok bool) {
	const proxyAt, nameAt, addressAt, stateAt, adminAt, resultAt, healthAt, portAt = 1, 3, 4, 5, 6, 11, 12, 18
	f := strings.Fields(line)
	if len(f) <= portAt || f[0] == "#" {
		return "", slot{}, false
	}
	address, err := netip.ParseAddr(f[addressAt])
	port, portErr := strconv.ParseUint(f[portAt], 10, 16)
	admin, adminErr := strconv.ParseUint(f[adminAt], 10, 32)
	if err != nil || portErr != nil || adminErr != nil {
		return "", slot{}, false
	}
	health, _ := strconv.Atoi(f[healthAt]) // where it is no number, the server is not checked
	const forced, checkFailed = 1, "2"
	return f[proxyAt], slot{
		name: f[nameAt], at: netip.AddrPortFrom(address, uint16(port)), down: f[stateAt] == "0", maint: admin&forced != 0,
		failed: f[resultAt] == checkFailed, health: health,
	}, true
}
