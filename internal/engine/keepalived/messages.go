package keepalived

import (
	"cmp"
	"regexp"
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
)

// complaint is a line about a line of the configuration.
var complaint = regexp.MustCompile(`(?m)^\((\S+): Line (\d+)\) (.*)$`)

// complaints are the lines with which keepalived refuses something. What it only
// warns of is its owner's affair, but for an interface that is missing: it would
// end at a reload. It would load a file with errors and drop what it did not understand.
func complaints(log string) string {
	var lines []string
	for _, line := range complaint.FindAllString(log, -1) {
		if !strings.Contains(line, "WARNING") || noInterface.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

func (k *Daemon) Lacks(words string) bool { return noInterface.MatchString(words) }

var noInterface = regexp.MustCompile(`WARNING - interface (\S+) for vrrp_instance external-lb doesn't exist`)

func (k *Daemon) Advise(words string, _ int) error {
	if m := noInterface.FindStringSubmatch(words); m != nil {
		return engine.Failed("this host has no interface %s: correct virtualAddresses.vrrp.interface of the Balancer, or name the host's interface so", m[1])
	}
	return nil
}

// Blame finds the fragments that keepalived's lines are about.
func (k *Daemon) Blame(s engine.Suspects, words string) map[string]engine.Culprit {
	culprits := map[string]engine.Culprit{}
	for _, m := range complaint.FindAllStringSubmatch(words, -1) {
		path, ok := s.InSet(m[1])
		if !ok {
			path = m[1]
		}
		if s.Has(path) {
			culprits[path] = engine.Culprit{Reason: cmp.Or(culprits[path].Reason, m[3])}
		}
	}
	return culprits
}
