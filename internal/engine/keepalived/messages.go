package keepalived

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
)

// routerName is that of our instance, see the template.
const routerName = "external-lb"

var (
	located     = regexp.MustCompile(`(?m)^\((\S+): Line (\d+)\) (.*)$`) // about a line of a file
	noInterface = regexp.MustCompile(`(?m)^.*WARNING - interface (\S+) for vrrp_instance (.+) doesn't exist$`)
	sameRouter  = regexp.MustCompile(`(?m)^(.+) and (.+) both use VRID (\d+) with (IPv[46]) on interface (\S+)$`)
)

// noStart is said where an interface is missing and keepalived would end for that.
const noStart = "Non-existent interface specified"

// complaints are the lines with which keepalived refuses something of ours. It would load
// a file with errors and drop what it did not understand. What it says of the owner's
// lines is the owner's affair: it runs with them.
func complaints(log string, ours func(file string) bool) string {
	var lines []string
	for line := range strings.Lines(log) {
		line = strings.TrimSuffix(line, "\n")
		at, router := located.FindStringSubmatch(line), noInterface.FindStringSubmatch(line)
		both := sameRouter.FindStringSubmatch(line)
		mine := router != nil && router[2] == routerName || both != nil && slices.Contains(both[1:3], routerName) ||
			at != nil && ours(at[1]) && !strings.Contains(line, "WARNING")
		if mine && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// deadly are the lines of the owner's with which keepalived does not run: it would end at a
// reload.
func deadly(log string) string {
	lines := sameRouter.FindAllString(log, -1)
	if strings.Contains(log, noStart) {
		lines = append(lines, noInterface.FindAllString(log, -1)...)
	}
	return strings.Join(lines, "\n")
}

// ours reports whether a file that keepalived names is one of what is live or is tested. It
// names those that others include as they are included.
func (k *Daemon) ours(file string) bool {
	if filepath.IsAbs(file) {
		return strings.HasPrefix(file, k.Dir+"/")
	}
	for _, from := range []string{engine.LiveLink, engine.CandidateLink} {
		for _, file := range []string{file, Prefix + file} {
			if _, err := os.Stat(filepath.Join(k.Dir, from, file)); err == nil {
				return true
			}
		}
	}
	return false
}

func (k *Daemon) Lacks(string) bool        { return false }
func (k *Daemon) Advise(string, int) error { return nil }

// Blame finds the fragments that keepalived's lines are about, and the virtual router.
func (k *Daemon) Blame(s engine.Suspects, words string) map[string]engine.Culprit {
	culprits := map[string]engine.Culprit{}
	blame := func(path, why string) {
		if s.Has(path) {
			culprits[path] = engine.Culprit{Reason: cmp.Or(culprits[path].Reason, why)}
		}
	}
	for line := range strings.Lines(words) {
		line = strings.TrimSuffix(line, "\n")
		if m := noInterface.FindStringSubmatch(line); m != nil {
			blame(mainPath, "this host has no interface "+m[1]+": correct virtualAddresses.vrrp.interface of the Balancer, or name the host's interface so")
		} else if m := sameRouter.FindStringSubmatch(line); m != nil {
			other := m[1]
			if other == routerName {
				other = m[2]
			}
			blame(mainPath, fmt.Sprintf("vrrp_instance %s of this host's owner has the virtual router ID %s on %s: give the Balancer another virtualRouterID", other, m[3], m[5]))
		} else if m := located.FindStringSubmatch(line); m != nil {
			path, ok := s.InSet(m[1])
			if !ok {
				path = m[1]
			}
			blame(path, m[3])
		}
	}
	return culprits
}
