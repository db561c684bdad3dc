package cli

import (
	"context"
	"math"

	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/internal/ui/page"
)

// traffic for a page: what the manager's metrics say of hosts.
func (m *managerMetrics) traffic(server *apiServer) (func(context.Context) ([]page.Look, error), error) {
	ask, err := m.open(server)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) ([]page.Look, error) {
		s, err := ask(ctx)
		if err != nil {
			return nil, err
		}
		return s.looks(), nil
	}, nil
}

func (s *sample) looks() []page.Look {
	ports := map[hostName][]page.PortLook{}
	for name, r := range s.rows {
		t := r.totals
		p := page.PortLook{
			Service: types.NamespacedName{Namespace: name.namespace, Name: name.service}, Open: count(r.open),
			Counts: page.Counts{Made: count(t[made]), Refused: count(t[refused]), Failed: count(t[failed]), In: count(t[in]), Out: count(t[out])},
			Up:     int(max(0, count(r.up))), Down: int(max(0, count(r.down))),
		}
		ports[name.hostName] = append(ports[name.hostName], p)
	}
	var all []page.Look
	for name, at := range s.at {
		all = append(all, page.Look{Balancer: name.balancer, Host: name.host, At: at, Ports: ports[name]})
	}
	return all
}

// count of a metric; less than 0: it is not known, or is none.
func count(n float64) int64 {
	if math.IsNaN(n) || n < 0 || n > math.MaxInt64/2 {
		return -1
	}
	return int64(n)
}
