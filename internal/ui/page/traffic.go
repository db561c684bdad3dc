package page

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// unknown is a count that nobody can tell.
const unknown = -1

// Look is what the daemons of a host told, once.
type Look struct {
	Balancer, Host string
	At             time.Time
	Silent         string // why they do not tell; "" if they do
	Ports          []PortLook
}

// PortLook is what they told of a port of a Service. A negative number is not known.
type PortLook struct {
	Service   types.NamespacedName
	Open      int64 // connections
	Counts          // which grow
	Up, Down  int   // nodes; neither: nobody judges them
	DownNodes []DownNode
}

// Counts grow, until a daemon begins anew.
type Counts struct{ Made, Refused, Failed, In, Out int64 }

// DownNode is one that a host holds for down.
type DownNode struct {
	Node  string `json:"node"`
	Since string `json:"since,omitempty"` // RFC 3339; "": not known
}

// ServiceTraffic is what the hosts tell of a Service.
type ServiceTraffic struct {
	Hosts []HostTraffic `json:"hosts"`
}

// HostTraffic is what one host tells, of a Service or of all of them. What is not there is
// not known; rates are by the second.
type HostTraffic struct {
	Balancer string     `json:"balancer"`
	Host     string     `json:"host"`
	Silent   string     `json:"silent,omitempty"`
	Open     *float64   `json:"open,omitempty"`
	Made     *float64   `json:"made,omitempty"`
	Refused  *float64   `json:"refused,omitempty"`
	Failed   *float64   `json:"failed,omitempty"`
	In       *float64   `json:"in,omitempty"`
	Out      *float64   `json:"out,omitempty"`
	Up       *int       `json:"up,omitempty"`
	Down     *int       `json:"down,omitempty"`
	Named    []DownNode `json:"named,omitempty"` // some of those that are down
}

// Meter makes rates of what hosts count.
type Meter struct {
	hosts map[hostName]*metered
}

type hostName struct{ balancer, host string }

// metered is a host: its last look, and what changed since the one before.
type metered struct {
	last     time.Time
	services map[types.NamespacedName]sums
}

// sums of a Service's ports on a host.
type sums struct {
	open, up, down int64
	counts         Counts
	rates          [rates]float64 // NaN: not known
	named          []DownNode
}

// rates that there are.
const rates = 5

func (c Counts) list() [rates]int64 { return [rates]int64{c.Made, c.Refused, c.Failed, c.In, c.Out} }

// NewMeter makes one that knows nothing.
func NewMeter() *Meter { return &Meter{map[hostName]*metered{}} }

// Items are what the hosts tell, sorted by key. A host that has not looked anew since the
// last call has the rates of then.
func (m *Meter) Items(looks []Look) ([]Item, error) {
	hosts := map[hostName]*metered{}
	values := map[string]any{}
	services := map[types.NamespacedName]*ServiceTraffic{}
	for _, l := range slices.SortedFunc(slices.Values(looks), func(a, b Look) int {
		return cmp.Or(cmp.Compare(a.Balancer, b.Balancer), cmp.Compare(a.Host, b.Host))
	}) {
		name := hostName{l.Balancer, l.Host}
		if l.Silent != "" {
			values["host/"+l.Balancer+"/"+l.Host] = HostTraffic{Balancer: l.Balancer, Host: l.Host, Silent: cut(l.Silent)}
			continue
		}
		now := m.hosts[name].next(l)
		hosts[name] = now
		var all total
		for _, service := range slices.SortedFunc(maps.Keys(now.services), byName) {
			t := now.services[service].traffic(name)
			all.add(t)
			if services[service] == nil {
				services[service] = &ServiceTraffic{}
			}
			if of := services[service]; len(of.Hosts) < maxListed {
				of.Hosts = append(of.Hosts, t)
			}
		}
		values["host/"+l.Balancer+"/"+l.Host] = all.of(name)
	}
	m.hosts = hosts
	for name, t := range services {
		values["traffic/"+name.Namespace+"/"+name.Name] = t
	}
	return itemsOf(values)
}

func byName(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// next is a host after another look; nil: it is the first.
func (m *metered) next(l Look) *metered {
	if m != nil && m.last.Equal(l.At) {
		return m
	}
	now := &metered{l.At, map[types.NamespacedName]sums{}}
	for _, p := range l.Ports {
		s, there := now.services[p.Service]
		if !there {
			s = sums{up: unknown, down: unknown}
		}
		s.add(p)
		now.services[p.Service] = s
	}
	for service, s := range now.services {
		for i := range s.rates {
			s.rates[i] = math.NaN()
		}
		if m != nil {
			if was, there := m.services[service]; there {
				s.since(was, l.At.Sub(m.last))
			}
		}
		now.services[service] = s
	}
	return now
}

// add a port. What is not known of one is not known of all; a node that one of them holds for
// down is down.
func (s *sums) add(p PortLook) {
	sum := func(into *int64, n int64) {
		if *into < 0 || n < 0 {
			*into = unknown
		} else {
			*into += n
		}
	}
	sum(&s.open, p.Open)
	sum(&s.counts.Made, p.Made)
	sum(&s.counts.Refused, p.Refused)
	sum(&s.counts.Failed, p.Failed)
	sum(&s.counts.In, p.In)
	sum(&s.counts.Out, p.Out)
	if p.Up+p.Down > 0 {
		if s.up < 0 || int64(p.Up) < s.up {
			s.up = int64(p.Up)
		}
		s.down = max(s.down, int64(p.Down))
	}
	for _, d := range p.DownNodes {
		at := slices.IndexFunc(s.named, func(n DownNode) bool { return n.Node == d.Node })
		switch {
		case at < 0 && len(s.named) < maxSummary:
			s.named = append(s.named, d)
		case at >= 0 && d.Since != "" && (s.named[at].Since == "" || d.Since < s.named[at].Since):
			s.named[at].Since = d.Since
		}
	}
	slices.SortFunc(s.named, func(a, b DownNode) int { return cmp.Compare(a.Node, b.Node) })
}

// since another look, the rates. A daemon that has begun anew counts from 0.
func (s *sums) since(was sums, passed time.Duration) {
	before := was.counts.list()
	for i, n := range s.counts.list() {
		switch {
		case n < 0 || before[i] < 0 || passed <= 0:
		case n >= before[i]:
			s.rates[i] = float64(n-before[i]) / passed.Seconds()
		default:
			s.rates[i] = float64(n) / passed.Seconds()
		}
	}
}

func (s sums) traffic(of hostName) HostTraffic {
	t := HostTraffic{Balancer: of.balancer, Host: of.host, Named: s.named}
	if s.open >= 0 {
		t.Open = new(float64(s.open))
	}
	for i, into := range t.rates() {
		if !math.IsNaN(s.rates[i]) {
			*into = new(legible(s.rates[i]))
		}
	}
	if s.up >= 0 {
		t.Up, t.Down = new(int(s.up)), new(int(s.down))
	}
	return t
}

func (t *HostTraffic) rates() [rates]**float64 {
	return [rates]**float64{&t.Made, &t.Refused, &t.Failed, &t.In, &t.Out}
}

// total of all Services of a host, as far as they can be told.
type total struct{ HostTraffic }

func (t *total) add(o HostTraffic) {
	sum := func(into **float64, n *float64) {
		if n != nil {
			if *into == nil {
				*into = new(float64)
			}
			**into += *n
		}
	}
	sum(&t.Open, o.Open)
	theirs := o.rates()
	for i, into := range t.rates() {
		sum(into, *theirs[i])
	}
}

func (t *total) of(name hostName) HostTraffic {
	t.Balancer, t.Host = name.balancer, name.host
	for _, n := range t.rates() {
		if *n != nil {
			**n = legible(**n)
		}
	}
	return t.HostTraffic
}

// legible is a rate of which people read three digits. So what hardly changes is not sent
// again and again.
func legible(n float64) float64 {
	if n == 0 || math.IsInf(n, 0) {
		return 0
	}
	unit := math.Pow(10, math.Floor(math.Log10(n))-2)
	if unit >= 1 {
		return math.Round(n/unit) * unit
	}
	return math.Round(n/unit) / math.Round(1/unit)
}
