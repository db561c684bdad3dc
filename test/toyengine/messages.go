package toyengine

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
)

var (
	inLine   = regexp.MustCompile(`^(/\S+):\d+: (.*)$`)
	atSocket = regexp.MustCompile(`^cannot listen on (\S+): (.*)$`)
	fewFiles = regexp.MustCompile(`too many open files`)
)

func (d *Daemon) Blame(s engine.Suspects, words string) map[string]engine.Culprit {
	culprits := map[string]engine.Culprit{}
	if d.Lacks(words) {
		return nil
	}
	for line := range strings.Lines(words) {
		line = strings.TrimSpace(line)
		if m := inLine.FindStringSubmatch(line); m != nil {
			if p, ok := s.InSet(m[1]); ok && s.Has(p) {
				culprits[p] = engine.Culprit{Reason: s.Trim(m[2])}
			}
		} else if m := atSocket.FindStringSubmatch(line); m != nil {
			s.Listening(m[1], m[2], culprits)
		}
	}
	return culprits
}

func (d *Daemon) Lacks(words string) bool { return fewFiles.MatchString(words) }

func (d *Daemon) Advise(words string, listeners int) error {
	if !d.Lacks(words) {
		return nil
	}
	return engine.Failed("%s: raise toyd's limit of open files to %d or more", engine.OneLine(words), engine.RoundUp(4*listeners))
}

func (d *Daemon) Limits(listeners, pid int) string {
	if have, known := engine.OpenFiles(pid); known && have < 2*listeners {
		return fmt.Sprintf("a limit of %d open files is low for %d listeners", have, listeners)
	}
	return ""
}
