package lvs

import (
	"context"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

// Observe reads the kernel's table. It has the open connections; what was counted takes
// rights that the agent does not have.
func (k *Daemon) Observe(context.Context, []engine.Carried) ([]engine.Traffic, error) {
	want, err := k.virtualServers(engine.LiveLink)
	if err != nil {
		return nil, err
	}
	table, err := os.ReadFile(ipvsTable)
	if err != nil {
		return nil, err
	}
	return trafficOf(want, string(table)), nil
}

// trafficOf holds virtual servers against the kernel's table. A node that keepalived holds
// for down has a weight of 0 there, or is not in it.
func trafficOf(want map[fileset.Socket]virtualServer, table string) (all []engine.Traffic) {
	open, weighs := map[fileset.Socket]int64{}, map[fileset.Socket]map[netip.AddrPort]bool{}
	walkIPVS(table, func(of fileset.Socket) { weighs[of] = map[netip.AddrPort]bool{} },
		func(of fileset.Socket, at netip.AddrPort, fields []string) {
			const weight, active, inactive = 3, 4, 5 // "-> ADDRESS Masq 1 3 0"
			if len(fields) <= inactive {
				return
			}
			weighs[of][at] = fields[weight] != "0"
			count := func(i int) int64 { n, _ := strconv.ParseInt(fields[i], 10, 64); return max(0, n) }
			open[of] += count(active)
			if of.Network == "udp" { // its flows are never active
				open[of] += count(inactive)
			}
		})
	for at, v := range want {
		t := engine.Traffic{Carried: engine.Carried{Service: v.service, Listener: listenerOf(at)}, Counts: engine.Uncounted}
		if _, there := weighs[at]; there {
			t.Open = open[at]
			for address, node := range v.judged {
				t.Judge(node, weighs[at][address], engine.Unknown)
			}
		}
		all = append(all, t)
	}
	return all
}

func listenerOf(s fileset.Socket) lb.Listener {
	return lb.Listener{Address: s.Address.Addr(), Port: s.Address.Port(), Protocol: lb.Protocol(strings.ToUpper(s.Network))}
}
