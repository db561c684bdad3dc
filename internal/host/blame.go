package host

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/internal/fileset"
)

// suspects are the fragments that the daemon's words may be about.
type suspects struct {
	dir   string // of the store
	index index
	read  func(path string) ([]byte, error)
}

func (g *staged) suspects() suspects {
	return suspects{g.store.dir, g.index, func(p string) ([]byte, error) { return g.store.root.ReadFile(g.path(filesDir, p)) }}
}

func (d *delivery) suspects() suspects {
	s := suspects{dir: d.store.dir, index: index{}}
	for p, f := range d.accepted() {
		s.index[p] = f.entry
	}
	s.read = func(p string) ([]byte, error) {
		if data := d.want[p].data; data != nil {
			return data, nil
		}
		return d.store.root.ReadFile(strings.Join([]string{genDir, d.state.Good, filesDir, p}, "/"))
	}
	return s
}

// withAdvice tells what the machine cannot do from what the daemon does not want,
// and adds what to do.
func (a *Agent) withAdvice(listeners int, cause error) error {
	if r, ok := cause.(*refusal); ok {
		if advice := a.daemon.advise(r.words, listeners); advice != nil {
			return advice
		}
	}
	return cause
}

var (
	inSet  = regexp.MustCompile(`/(?:candidate|live|gen/[0-9]+/files)/`)
	quoted = regexp.MustCompile(`["']([^"']{8,})["']`)
)

// inSet is the path in its set of a file that the daemon names.
func (s suspects) inSet(file string) (string, bool) {
	rest, below := strings.CutPrefix(file, s.dir)
	at := inSet.FindStringIndex(rest)
	if !below || at == nil || at[0] != 0 {
		return "", false
	}
	return rest[at[1]:], true
}

// listening are the fragments that open an address that the daemon could not open.
func (s suspects) listening(address, reason string, culprits map[string]string) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return
	}
	for p, e := range s.index {
		i := slices.IndexFunc(e.Listens, func(l fileset.Socket) bool { return l.Address == at })
		if i >= 0 && e.Fragment {
			culprits[p] = probed(e.Listens[i], reason)
		}
	}
}

// probed is what a probe finds now, or the daemon's own words.
func probed(s fileset.Socket, reason string) string {
	if err := bindable(s.Address.Addr()); err != nil {
		return err.Error()
	}
	if l, ok := holder(listeners(), s); ok {
		return describe(l, s, processes()[l.inode])
	}
	return reason
}

// mentioning are the fragments that hold a text.
func (s suspects) mentioning(text, reason string, culprits map[string]string) {
	for p, e := range s.index {
		if data, err := s.read(p); err == nil && e.Fragment && strings.Contains(string(data), text) {
			culprits[p] = reason
		}
	}
}

// naming is the one fragment that holds a name that the daemon complains about.
func (s suspects) naming(line, reason string, culprits map[string]string) {
	for _, m := range quoted.FindAllStringSubmatch(line, -1) {
		var holders []string
		for p, e := range s.index {
			if data, err := s.read(p); err == nil && e.Fragment && strings.Contains(string(data), m[1]) {
				holders = append(holders, p)
			}
		}
		if len(holders) == 1 {
			culprits[holders[0]] = reason
		}
	}
}

// trim makes the daemon's words fit for people: paths are those of the set.
func (s suspects) trim(words string) string {
	set := regexp.MustCompile(regexp.QuoteMeta(s.dir) + inSet.String())
	return set.ReplaceAllString(oneLine(words), "")
}
