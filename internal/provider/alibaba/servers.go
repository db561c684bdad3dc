package alibaba

import (
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/external-lb/external-lb/provider"
)

// servers are which instance has which address, as it was read lately. A CLB knows instances.
type servers struct {
	mu   sync.Mutex
	ids  map[netip.Addr]known[string]
	from map[string]known[netip.Addr]
}

type known[T any] struct {
	is    T
	until time.Time
}

// fresh is how long what was read of an instance holds. Its address does not change while it lives.
const (
	fresh     = time.Minute
	instances = 100 // of one call
)

// nodes are the servers of members by their address, and those of which there is none.
func (s *session) nodes(ctx context.Context, members []provider.Member) (_ map[string]server, missing []netip.Addr, _ error) {
	out := map[string]server{}
	if s.Type != CLB { // which takes addresses
		for _, m := range members {
			out[m.Address.String()] = server{id: m.Address.String()}
		}
		return out, nil, nil
	}
	var ask []string
	for _, m := range members {
		if _, is := s.servers.id(m.Address); !is {
			ask = append(ask, m.Address.String())
		}
	}
	if err := s.instances(ctx, "PrivateIpAddresses", ask); err != nil {
		return nil, nil, err
	}
	for _, m := range members {
		if id, is := s.servers.id(m.Address); is {
			out[m.Address.String()] = server{id: id}
		} else {
			missing = append(missing, m.Address)
		}
	}
	return out, missing, nil
}

// addresses of the instances that groups have as servers.
func (s *session) addresses(ctx context.Context, groups []*group) error {
	var ask []string
	for _, g := range groups {
		for _, m := range g.servers {
			if _, is := s.servers.ip(m.id); !is && !slices.Contains(ask, m.id) {
				ask = append(ask, m.id)
			}
		}
	}
	if err := s.instances(ctx, "InstanceIds", ask); err != nil {
		return err
	}
	for _, g := range groups {
		for i := range g.servers {
			g.servers[i].ip, _ = s.servers.ip(g.servers[i].id)
		}
	}
	return nil
}

type ecsInstances struct {
	Instances struct {
		Instance []struct {
			InstanceId    string
			VpcAttributes struct {
				VpcId            string
				PrivateIpAddress struct{ IpAddress []string }
			}
		}
	}
}

// instances reads those of the VPC that have one of some addresses or IDs.
func (s *session) instances(ctx context.Context, by string, values []string) error {
	for part := range chunks(values, instances) {
		list, err := json.Marshal(part)
		if err != nil {
			return err
		}
		var answer ecsInstances
		p := params{by: string(list), "VpcId": s.VPC, "MaxResults": "100"}
		if err := s.do(ctx, call{ecsAPI, "DescribeInstances", p}, &answer); err != nil {
			return err
		}
		for _, i := range answer.Instances.Instance {
			if len(i.VpcAttributes.PrivateIpAddress.IpAddress) == 0 || i.VpcAttributes.VpcId != s.VPC {
				continue
			}
			s.servers.learn(i.InstanceId, ipOf(i.VpcAttributes.PrivateIpAddress.IpAddress[0]))
		}
	}
	return nil
}

func (s *servers) learn(id string, ip netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids == nil {
		s.ids, s.from = map[netip.Addr]known[string]{}, map[string]known[netip.Addr]{}
	}
	until := time.Now().Add(fresh)
	for old, k := range s.ids { // those that are gone
		if time.Now().After(k.until) {
			delete(s.ids, old)
		}
	}
	for old, k := range s.from {
		if time.Now().After(k.until) {
			delete(s.from, old)
		}
	}
	s.ids[ip], s.from[id] = known[string]{id, until}, known[netip.Addr]{ip, until}
}

func (s *servers) id(of netip.Addr) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ids[of].get()
}

func (s *servers) ip(of string) (netip.Addr, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.from[of].get()
}

func (k known[T]) get() (_ T, is bool) {
	if time.Now().After(k.until) {
		var none T
		return none, false
	}
	return k.is, true
}
