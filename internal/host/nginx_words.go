package host

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

var (
	inFile = regexp.MustCompile(` in (/\S+):\d+$`)
	// A certificate of a set, wherever the link to the set is.
	ofCertificate = regexp.MustCompile(`"[^"]*/(certs/[a-z0-9_.-]+)"`)
	bindTo        = regexp.MustCompile(`^bind\(\) to (\S+) failed \(\d+: `)
	tooFew        = regexp.MustCompile(`\d+ worker_connections are not enough`)
	// What every process may run out of: EMFILE, ENFILE; ENOMEM, ENOSPC.
	tooManyFiles = regexp.MustCompile(`failed \((?:23|24): `)
	outOfRoom    = regexp.MustCompile(`failed \((?:12|28): `)
	setting      = regexp.MustCompile(`(?m)^\s*(?:events\s*\{)?\s*worker_connections\s+(\d+)\s*;`)
)

func (n *nginx) blame(s suspects, words string) map[string]string {
	culprits := map[string]string{}
	for line := range strings.Lines(words) {
		line = strings.TrimSpace(line)
		reason := s.trim(line)
		if m := inFile.FindStringSubmatch(line); m != nil {
			if p, ok := s.inSet(m[1]); ok && s.index[p].Fragment {
				culprits[p] = reason
			}
		} else if m := ofCertificate.FindStringSubmatch(line); m != nil {
			s.mentioning(m[1], n.aboutCertificate(reason), culprits)
		} else if m := bindTo.FindStringSubmatch(line); m != nil {
			s.listening(m[1], reason, culprits)
		} else {
			s.naming(line, reason, culprits)
		}
	}
	return culprits
}

// aboutCertificate says what to do where nginx does not find any.
func (n *nginx) aboutCertificate(reason string) string {
	for path, target := range n.links() {
		if to, err := os.Readlink(path); err != nil || to != target {
			return "this host is not prepared for certificates: run `external-lb host install` on it as root"
		}
	}
	return reason
}

func (n *nginx) advise(words string, listeners int) error {
	switch {
	case tooFew.MatchString(words):
		return failed("%s: %s", oneLine(words), n.moreConnections(listeners))
	case tooManyFiles.MatchString(words):
		return failed("%s: raise nginx's limit of open files (LimitNOFILE in its systemd unit, and worker_rlimit_nofile in %s) to %d or more",
			oneLine(words), n.Conf, roundUp(4*listeners))
	case outOfRoom.MatchString(words):
		return failed("%s", oneLine(words))
	}
	return nil
}

func (n *nginx) lacks(words string) bool {
	return tooManyFiles.MatchString(words) || outOfRoom.MatchString(words)
}

func (n *nginx) limits(listeners, pid int) string {
	if have, known := n.connections(); known && have < 2*listeners {
		return fmt.Sprintf("%d worker_connections are few for %d listeners: %s", have, listeners, n.moreConnections(listeners))
	}
	if have, known := openFiles(pid); known && have < 2*listeners {
		return fmt.Sprintf("a limit of %d open files is low for %d listeners: set worker_rlimit_nofile in %s to %d or more",
			have, listeners, n.Conf, roundUp(4*listeners))
	}
	return ""
}

// connections that the owner's main file allows a worker.
func (n *nginx) connections() (int, bool) {
	data, err := os.ReadFile(n.Conf)
	m := setting.FindSubmatch(data)
	if err != nil || m == nil {
		return 0, false
	}
	allowed, err := strconv.Atoi(string(m[1]))
	return allowed, err == nil
}

func (n *nginx) moreConnections(listeners int) string {
	return fmt.Sprintf("set worker_connections in the events block of %s to %d or more", n.Conf, roundUp(2*listeners))
}
