package lvs

import (
	"net/netip"
	"slices"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
)

// A node that leaves has the weight 0: IPVS gives it no new connections, and nothing ends those
// that it has. When their time is over, the packet filter does.

// leavingFile has the real servers that leave.
const leavingFile = "leaving.json"

// leavingName is that of a real server that leaves.
func (v *virtualServer) leavingName(to netip.AddrPort) string {
	return engine.FrontendName(v.service, v.Address, v.Network) + "/" + to.String()
}

// late are the real servers of what is live whose connections are to end. Those that have come back
// have none, nor have those that IPVS no longer knows.
func (k *Daemon) late(live map[fileset.Socket]virtualServer) []string {
	leaving := map[string]time.Duration{}
	for _, v := range live {
		if v.drain == 0 || v.direct || v.Network != "tcp" {
			continue
		}
		for _, to := range v.leaving {
			leaving[v.leavingName(to)] = v.drain
		}
	}
	k.left.Only(leaving)
	return k.left.Late(0)
}

// Late reports whether connections have had their time. Where the packet filter refuses its rules, it
// is not told them every second.
func (k *Daemon) Late() bool {
	if over, _ := k.pause.Over(); !over {
		return false
	}
	late := k.left.Late(0)
	k.mu.Lock()
	defer k.mu.Unlock()
	return !slices.Equal(late, k.ended)
}
