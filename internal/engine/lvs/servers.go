package lvs

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

// virtualServer is one that is to be carried. One without real servers is not in the
// kernel's table, and refuses everybody.
type virtualServer struct {
	fileset.Socket
	direct      bool
	realServers []netip.AddrPort // sorted, each once
	service     lb.ID
	judged      map[netip.AddrPort]string // nodes that are checked, and are to get connections
	checkPort   uint16                    // at which their nodes are asked; 0: they are not, or at their own
	restricted  bool
	sources     []netip.Prefix
	drain       time.Duration    // for which connections to leaving nodes are served; 0: no bound
	leaving     []netip.AddrPort // of realServers: they get no new connections
}

// virtualServer that keepalived makes of a Frontend.
func (f *frontend) virtualServer() virtualServer {
	v := virtualServer{Socket: f.socket(), direct: f.Method == direct, restricted: f.Restricted, sources: f.Sources}
	v.drain = time.Duration(f.Drain) * time.Second
	for _, b := range f.Backends {
		v.realServers = append(v.realServers, b.Address)
		if b.Weight == 0 {
			v.leaving = append(v.leaving, b.Address)
		}
	}
	v.realServers = sortedOnce(v.realServers)
	if f.Check != nil {
		v.checkPort, v.judged = f.Check.Port, map[netip.AddrPort]string{}
		for _, b := range f.Backends {
			if b.Weight > 0 && b.Node != "" { // an older version did not note it
				v.judged[b.Address] = b.Node
			}
		}
	}
	return v
}

// virtualServersOf a set, by what they listen on.
func virtualServersOf(set engine.Set) (map[fileset.Socket]virtualServer, error) {
	all := map[fileset.Socket]virtualServer{}
	for _, path := range set.Paths {
		if !strings.HasPrefix(path, engine.ServicesPrefix) {
			continue // of a virtual router
		}
		var s service
		if _, err := set.View(path, &s); err != nil {
			return nil, err
		}
		for i := range s.Frontends {
			v := s.Frontends[i].virtualServer()
			v.service = s.ID
			all[v.Socket] = v
		}
	}
	return all, nil
}

func sortedOnce(all []netip.AddrPort) []netip.AddrPort {
	slices.SortFunc(all, netip.AddrPort.Compare)
	return slices.Compact(all)
}
