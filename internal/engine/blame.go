package engine

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/internal/fileset"
)

// Suspects are the fragments that a daemon's words may be about.
type Suspects struct {
	Dir       string                      // of the store
	Fragments map[string][]fileset.Socket // what each listens on, by path
	Read      func(path string) ([]byte, error)
	Probe     func(fileset.Socket) string // why a socket cannot be opened now; "" if nothing shows
}

// Culprit is why a fragment is refused.
type Culprit struct {
	Reason string
	// Sockets that cannot be opened, and why, where nothing else is wrong with the
	// fragment.
	Sockets map[fileset.Socket]string
}

// And is a Culprit of one socket more.
func (c Culprit) And(s fileset.Socket, reason string) Culprit {
	if c.Sockets == nil {
		c.Sockets = map[fileset.Socket]string{}
	}
	c.Reason, c.Sockets[s] = cmp.Or(c.Reason, reason), reason
	return c
}

// Has reports whether a path is that of a fragment.
func (s Suspects) Has(path string) bool {
	_, fragment := s.Fragments[path]
	return fragment
}

var (
	inSet  = regexp.MustCompile(`/(?:` + CandidateLink + `|` + LiveLink + `|` + GenerationsDir + `/[0-9]+/` + FilesDir + `)/`)
	quoted = regexp.MustCompile(`["']([^"']{8,})["']`)
)

// InSet is the path in its set of a file that the daemon names.
func (s Suspects) InSet(file string) (string, bool) {
	rest, below := strings.CutPrefix(file, s.Dir)
	at := inSet.FindStringIndex(rest)
	if !below || at == nil || at[0] != 0 {
		return "", false
	}
	return rest[at[1]:], true
}

// Listening are the fragments that open an address that the daemon could not open.
func (s Suspects) Listening(address, reason string, culprits map[string]Culprit) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return
	}
	for p, listens := range s.Fragments {
		if i := slices.IndexFunc(listens, func(l fileset.Socket) bool { return l.Address == at }); i >= 0 {
			culprits[p] = culprits[p].And(listens[i], cmp.Or(s.Probe(listens[i]), reason))
		}
	}
}

// Mentioning are the fragments that hold a text.
func (s Suspects) Mentioning(text, reason string, culprits map[string]Culprit) {
	for p := range s.Fragments {
		if data, err := s.Read(p); err == nil && strings.Contains(string(data), text) {
			culprits[p] = Culprit{Reason: reason}
		}
	}
}

// Naming is the one fragment that holds a name that the daemon complains about.
func (s Suspects) Naming(line, reason string, culprits map[string]Culprit) {
	for _, m := range quoted.FindAllStringSubmatch(line, -1) {
		var holders []string
		for p := range s.Fragments {
			if data, err := s.Read(p); err == nil && strings.Contains(string(data), m[1]) {
				holders = append(holders, p)
			}
		}
		if len(holders) == 1 {
			culprits[holders[0]] = Culprit{Reason: reason}
		}
	}
}

// Trim makes the daemon's words fit for people: paths are those of the set.
func (s Suspects) Trim(words string) string {
	set := regexp.MustCompile(regexp.QuoteMeta(s.Dir) + inSet.String())
	return set.ReplaceAllString(OneLine(words), "")
}
