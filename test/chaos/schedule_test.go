package chaos

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// kind is what a step does.
type kind string

// Steps that are over when they have been taken: what users do, and crashes.
const (
	create    kind = "create a Service"
	remove    kind = "delete a Service"
	renew     kind = "delete and make anew"
	movePort  kind = "change the port"
	withdraw  kind = "to ClusterIP"
	expose    kind = "to LoadBalancer"
	wipe      kind = "wipe the status"
	hostile   kind = "hostile object"
	certify   kind = "hostile certificate"
	killLead  kind = "kill the manager"
	killAgent kind = "kill the agent"
	killServe kind = "kill host serve"
	killProxy kind = "kill the daemon"
	rewind    kind = "back up or restore a host"
	backUp    kind = "back up the cluster"
	restore   kind = "restore the cluster"
	intrude   kind = "another cluster delivers"
	// calm ends all that is open, and waits until everything is as it should be.
	calm kind = "calm"
)

// Steps that begin something, which stays until a calm or the step that ends it.
const (
	cut       kind = "cut a host off"
	mute      kind = "cut a host off from the manager"
	fill      kind = "fill a disk"
	freeze    kind = "stop the agent"
	powerOff  kind = "power a host off"
	nodeDown  kind = "power a node off"
	outage    kind = "stop the API server"
	pauseLead kind = "pause the leader"
	contend   kind = "fight over a status"
	deny      kind = "deny writes of a namespace"
	garble    kind = "garble the node selector"
)

// endOf are what ends each of them.
var endOf = map[kind]kind{
	cut: "plug the host in", mute: "let the manager reach the host", fill: "free the disk", freeze: "let the agent go on",
	powerOff: "power the host on", nodeDown: "power the node on", outage: "start the API server", pauseLead: "wake the old leader",
	contend: "leave the status alone", deny: "allow the writes", garble: "mend the node selector",
}

// needAPI are those that cannot end without an API server.
var needAPI = []kind{nodeDown, contend, deny, garble}

// weights say how often a kind is chosen, where it can be: some seldom can.
var weights = map[kind]int{
	create: 12, remove: 5, renew: 3, movePort: 6, withdraw: 3, expose: 6, wipe: 2, hostile: 8,
	killLead: 3, killAgent: 4, killServe: 3, killProxy: 2, rewind: 30,
	cut: 2, mute: 3, fill: 2, freeze: 2, powerOff: 2, nodeDown: 2, outage: 2, pauseLead: 1,
	backUp: 3, restore: 3, intrude: 2, certify: 3, contend: 2, deny: 2, garble: 2,
}

const (
	apps  = 6  // Services that come and go, each with pods of its own
	hosts = 2  // lb1 and lb2
	nodes = 2  // node1 and node2
	every = 12 // steps from calm to calm
)

// step is one of a schedule. What it is about is a name, or none.
type step struct {
	kind  kind
	about string
	n     int  // which of several ways
	waits bool // until what has changed is seen, where somebody can see to it
}

func (s step) String() string { return fmt.Sprintf("%s %s (%d)", s.kind, s.about, s.n) }

// planned is what a schedule knows of the world while it is made.
type planned struct {
	random *rand.Rand
	often  []string          // kinds that come more often than others
	types  map[string]kind   // of the Services that are there: expose or withdraw
	open   map[string][]kind // what has begun and not ended, by what it is about
	saved  map[string]kind   // types, at the last backup of the cluster; nil: there is none
	calm   bool              // nothing is on its way
}

// schedule makes steps: the same ones of the same seed and number, and of what comes often.
// The last is a calm.
func schedule(seed uint64, count int, often ...string) []step {
	p := &planned{random: rand.New(rand.NewPCG(seed, 0)), often: often, types: map[string]kind{}, open: map[string][]kind{}}
	var steps []step
	for len(steps) < count-1 {
		if len(steps)%every == every-1 {
			steps = append(steps, p.take(step{kind: calm}))
			continue
		}
		steps = append(steps, p.take(p.choose()))
	}
	return append(steps, step{kind: calm})
}

// choose one of the steps that can be taken, by weight.
func (p *planned) choose() step {
	total := 0
	possible := p.possible()
	for _, s := range possible {
		total += s.n
	}
	at := p.random.IntN(total)
	i := 0
	for ; at >= possible[i].n; i++ {
		at -= possible[i].n
	}
	chosen := possible[i]
	chosen.n, chosen.waits = p.random.IntN(1000), p.random.IntN(2) == 0
	return chosen
}

// possible lists what can happen now, each with a thousandth of its weight in n, which
// is shared by all that it may be about.
func (p *planned) possible() (all []step) {
	for _, k := range sorted(weights) {
		about := slices.DeleteFunc(subjects(k), func(name string) bool { return !p.can(k, name) })
		weight := 1000 * weights[k]
		if slices.Contains(p.often, string(k)) {
			weight = 40_000
		}
		for _, name := range about {
			all = append(all, step{kind: k, about: name, n: weight / len(about)})
		}
	}
	for _, name := range sorted(p.open) {
		for _, k := range p.open[name] {
			if p.any(outage) && slices.Contains(needAPI, k) {
				continue
			}
			all = append(all, step{kind: endOf[k], about: name, n: 4000})
		}
	}
	return all
}

// subjects are all that a kind may be about.
func subjects(k kind) []string {
	switch k {
	case create, remove, renew, movePort, withdraw, expose, wipe:
		return numbered("app", apps)
	case cut, mute, fill, freeze, powerOff, killAgent, killServe, killProxy, rewind, intrude:
		return numbered("lb", hosts)
	case nodeDown:
		return numbered("node", nodes)
	default:
		return []string{""}
	}
}

func numbered(name string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("%s%d", name, i+1))
	}
	return all
}

// can say whether a step makes sense: users and the manager need an API server, and
// of two hosts, and of two nodes, one must be able to carry traffic.
func (p *planned) can(k kind, name string) bool {
	down, is := p.any(outage), p.types[name]
	switch k {
	case create:
		return is == "" && !down
	case remove, renew, movePort:
		return is != "" && !down
	case withdraw, wipe:
		return is == expose && !down
	case expose:
		return is == withdraw && !down
	case hostile, certify, killLead, outage, pauseLead, backUp:
		return !down && !p.any(pauseLead)
	case nodeDown, contend, deny, garble:
		return !down && !p.any(k)
	case restore:
		return p.saved != nil
	case intrude: // it must be heard
		return !down && len(p.open[name]) == 0
	case killAgent, killServe, freeze:
		return !p.is(name, powerOff) && !p.is(name, freeze)
	case rewind: // what was live before must be so again, so nothing may be on its way
		return p.calm
	case killProxy: // a daemon cannot start on a disk that is full
		return len(p.open[name]) == 0
	case cut, powerOff:
		return !p.any(cut) && !p.any(powerOff) && len(p.open[name]) == 0
	default: // what keeps a host from changes, not from traffic
		return len(p.open[name]) == 0
	}
}

// any reports whether something of a kind has begun and not ended.
func (p *planned) any(k kind) bool {
	for name := range p.open {
		if p.is(name, k) {
			return true
		}
	}
	return false
}

func (p *planned) is(name string, k kind) bool { return slices.Contains(p.open[name], k) }

// take remembers what a step does.
func (p *planned) take(s step) step {
	p.calm = s.kind == calm || s.kind == restore || p.calm && s.kind == rewind
	switch s.kind {
	case backUp:
		p.saved = maps.Clone(p.types)
	case restore: // which is a calm, too
		p.types = maps.Clone(p.saved)
		clear(p.open)
	case create:
		p.types[s.about] = expose
	case remove:
		delete(p.types, s.about)
	case expose, withdraw:
		p.types[s.about] = s.kind
	case calm:
		clear(p.open)
	}
	for begin, end := range endOf {
		switch s.kind {
		case begin:
			p.open[s.about] = append(p.open[s.about], begin)
		case end:
			p.open[s.about] = slices.DeleteFunc(p.open[s.about], func(k kind) bool { return k == begin })
		}
	}
	return s
}

func sorted[K ~string, V any](m map[K]V) []K {
	var keys []K
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func TestSchedulesFollowFromTheSeed(t *testing.T) {
	for seed := range uint64(10) {
		steps := schedule(seed, 200)
		if !slices.Equal(steps, schedule(seed, 200)) {
			t.Errorf("seed %d gives two schedules", seed)
		}
		if slices.Equal(steps, schedule(seed+1, 200)) {
			t.Errorf("seeds %d and %d give the same", seed, seed+1)
		}
		if len(steps) != 200 || steps[199].kind != calm || !slices.Equal(steps[:12], schedule(seed, 100)[:12]) {
			t.Errorf("seed %d: %d steps, the last is %s", seed, len(steps), steps[len(steps)-1])
		}
	}
}

func TestSchedulesHaveEveryKind(t *testing.T) {
	seen := map[kind]int{}
	for seed := range uint64(20) {
		for _, s := range schedule(seed, 100) {
			seen[s.kind]++
		}
	}
	for _, k := range append(sorted(weights), calm) {
		if seen[k] == 0 {
			t.Errorf("no schedule has %q", k)
		}
		if end := endOf[k]; end != "" && seen[end] == 0 {
			t.Errorf("no schedule has %q", end)
		}
	}
}
