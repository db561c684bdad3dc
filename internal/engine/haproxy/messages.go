package haproxy

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
)

var (
	alert   = regexp.MustCompile(`(?m)^\[ALERT\]\s+\(\d+\)\s+:\s+(?:config : )?(.*)$`)
	parsing = regexp.MustCompile(`^parsing \[(/\S+):(\d+)\] : (.*)$`)
	echo    = regexp.MustCompile(`^(?:Error\(s\) found in configuration file|Fatal errors found in configuration)`)
)

// alerts are the lines with which HAProxy refuses something, each on a line.
func alerts(log string) string {
	var lines []string
	for _, m := range alert.FindAllStringSubmatch(log, -1) {
		if text := strings.TrimSpace(m[1]); !echo.MatchString(text) {
			lines = append(lines, text)
		}
	}
	return strings.Join(lines, "\n")
}

func (h *Daemon) Blame(s engine.Suspects, words string) map[string]engine.Culprit {
	culprits := map[string]engine.Culprit{}
	for line := range strings.Lines(words) {
		line = strings.TrimSpace(line)
		if m := parsing.FindStringSubmatch(line); m != nil {
			if p, ok := h.fileAt(s, m[1], m[2]); ok {
				culprits[p] = engine.Culprit{Reason: s.Trim(m[3])}
			}
		} else {
			s.Naming(line, s.Trim(line), culprits)
		}
	}
	return culprits
}

// fileAt is the fragment that a line of the whole configuration comes from.
func (h *Daemon) fileAt(s engine.Suspects, file, number string) (string, bool) {
	if p, ok := s.InSet(file); !ok || p != h.OwnFile() {
		return "", false
	}
	line, err := strconv.Atoi(number)
	text, readErr := s.Read(h.OwnFile())
	if err != nil || readErr != nil {
		return "", false
	}
	for at := range bytes.Lines(text) {
		if line--; line < 0 {
			break
		}
		if p, ok := strings.CutPrefix(string(at), fileMark); ok {
			file = strings.TrimSuffix(p, "\n")
		}
	}
	return file, s.Has(file)
}

// HAProxy does not number the errors of the system.
var (
	fewFiles  = regexp.MustCompile(`(?i)too many open files|not enough sockets|raise 'ulimit-n'|FD limit`)
	fewMemory = regexp.MustCompile(`(?i)out of memory|cannot allocate memory|no space left on device`)
)

func (h *Daemon) Lacks(words string) bool {
	return fewFiles.MatchString(words) || fewMemory.MatchString(words)
}

func (h *Daemon) Advise(words string, listeners int) error {
	switch {
	case fewFiles.MatchString(words):
		return engine.Failed("%s: raise HAProxy's limit of open files (LimitNOFILE in its systemd unit) to %d or more", engine.OneLine(words), engine.RoundUp(4*listeners))
	case fewMemory.MatchString(words):
		return engine.Failed("%s", engine.OneLine(words))
	}
	return nil
}

func (h *Daemon) Limits(listeners, pid int) string {
	if have, known := engine.OpenFiles(pid); known && have < 2*listeners {
		return fmt.Sprintf("a limit of %d open files is low for %d listeners: set LimitNOFILE in HAProxy's systemd unit to %d or more, and maxconn in %s accordingly",
			have, listeners, engine.RoundUp(4*listeners), h.Conf)
	}
	return ""
}
