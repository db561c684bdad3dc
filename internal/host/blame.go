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
	index index
	read  func(path string) ([]byte, error)
}

func (g *staged) suspects() suspects {
	return suspects{g.index, func(p string) ([]byte, error) { return g.store.root.ReadFile(g.path(filesDir, p)) }}
}

func (d *delivery) suspects() suspects {
	s := suspects{index: index{}}
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

var (
	inFile = regexp.MustCompile(` in (/\S+):\d+$`)
	inSet  = regexp.MustCompile(`/(?:candidate|live|gen/[0-9]+/files)/`)
	bindTo = regexp.MustCompile(`^bind\(\) to (\S+) failed \(\d+: `)
	quoted = regexp.MustCompile(`"([^"]{8,})"`)
	tooFew = regexp.MustCompile(`\d+ worker_connections are not enough`)
	// What every process may run out of: EMFILE, ENFILE; ENOMEM, ENOSPC.
	tooManyFiles = regexp.MustCompile(`failed \((?:23|24): `)
	outOfRoom    = regexp.MustCompile(`failed \((?:12|28): `)
	setting      = regexp.MustCompile(`(?m)^\s*(?:events\s*\{)?\s*worker_connections\s+(\d+)\s*;`)
)

// blame finds the fragments that nginx's words are about, and why each is refused.
func (a *Agent) blame(s suspects, words string) map[string]string {
	culprits := map[string]string{}
	for line := range strings.Lines(words) {
		line = strings.TrimSpace(line)
		reason := a.trim(line)
		if m := inFile.FindStringSubmatch(line); m != nil {
			if p, ok := a.inSet(m[1]); ok && s.index[p].Fragment {
				culprits[p] = reason
			}
		} else if m := bindTo.FindStringSubmatch(line); m != nil {
			s.listening(m[1], reason, culprits)
		} else {
			s.naming(line, reason, culprits)
		}
	}
	return culprits
}

// blameAll refuses the fragments because of which a reload failed, and reports
// whether there are any.
func (a *Agent) blameAll(d *delivery, words string) bool {
	culprits := a.blame(d.suspects(), words)
	for p, reason := range culprits {
		d.refused[p] = reason
	}
	return len(culprits) > 0
}

// inSet is the path in its set of a file that nginx names.
func (a *Agent) inSet(file string) (string, bool) {
	rest, below := strings.CutPrefix(file, a.dir)
	at := inSet.FindStringIndex(rest)
	if !below || at == nil || at[0] != 0 {
		return "", false
	}
	return rest[at[1]:], true
}

// listening are the fragments that open an address that nginx could not open.
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

// naming is the one fragment that holds a name that nginx complains about.
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

// trim makes nginx's words fit for people: paths are those of the set.
func (a *Agent) trim(words string) string {
	set := regexp.MustCompile(regexp.QuoteMeta(a.dir) + inSet.String())
	return set.ReplaceAllString(oneLine(words), "")
}

// withAdvice tells what the machine cannot do from what nginx does not want, and
// adds what to do.
func (a *Agent) withAdvice(listeners int, cause error) error {
	r, ok := cause.(*refusal)
	switch {
	case !ok:
		return cause
	case tooFew.MatchString(r.words):
		return failed("%s: %s", oneLine(r.words), a.moreConnections(listeners))
	case tooManyFiles.MatchString(r.words):
		return failed("%s: raise nginx's limit of open files (LimitNOFILE in its systemd unit, and worker_rlimit_nofile in %s) to %d or more",
			oneLine(r.words), a.nginx.Conf, roundUp(4*listeners))
	case outOfRoom.MatchString(r.words):
		return failed("%s", oneLine(r.words))
	}
	return cause
}

// lacks reports whether nginx's words are about the machine, and no fragment's fault.
func lacks(words string) bool {
	return tooManyFiles.MatchString(words) || outOfRoom.MatchString(words)
}
