package nginx

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
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

func (n *Daemon) Blame(s engine.Suspects, words string) map[string]engine.Culprit {
	culprits := map[string]engine.Culprit{}
	for line := range strings.Lines(words) {
		line = strings.TrimSpace(line)
		reason := s.Trim(line)
		if m := inFile.FindStringSubmatch(line); m != nil {
			if p, ok := s.InSet(m[1]); ok && s.Has(p) {
				culprits[p] = engine.Culprit{Reason: reason}
			}
		} else if m := ofCertificate.FindStringSubmatch(line); m != nil {
			s.Mentioning(m[1], n.aboutCertificate(reason), culprits)
		} else if m := bindTo.FindStringSubmatch(line); m != nil {
			s.Listening(m[1], reason, culprits)
		} else {
			s.Naming(line, reason, culprits)
		}
	}
	return culprits
}

// aboutCertificate says what to do where nginx does not find any.
func (n *Daemon) aboutCertificate(reason string) string {
	for path, target := range n.Links() {
		if to, err := os.Readlink(path); err != nil || to != target {
			return "this host is not prepared for certificates: run `external-lb host install` on it as root"
		}
	}
	return reason
}

func (n *Daemon) Advise(words string, listeners int) error {
	switch {
	case tooFew.MatchString(words):
		return engine.Failed("%s: %s", engine.OneLine(words), n.moreConnections(listeners))
	case tooManyFiles.MatchString(words):
		return engine.Failed("%s: raise nginx's limit of open files (LimitNOFILE in its systemd unit, and worker_rlimit_nofile in %s) to %d or more",
			engine.OneLine(words), n.Conf, engine.RoundUp(4*listeners))
	case outOfRoom.MatchString(words):
		return engine.Failed("%s", engine.OneLine(words))
	}
	return nil
}

func (n *Daemon) Lacks(words string) bool {
	return tooManyFiles.MatchString(words) || outOfRoom.MatchString(words)
}

func (n *Daemon) Limits(listeners, pid int) string {
	if have, known := n.connections(); known && have < 2*listeners {
		return fmt.Sprintf("%d worker_connections are few for %d listeners: %s", have, listeners, n.moreConnections(listeners))
	}
	if have, known := engine.OpenFiles(pid); known && have < 2*listeners {
		return fmt.Sprintf("a limit of %d open files is low for %d listeners: set worker_rlimit_nofile in %s to %d or more",
			have, listeners, n.Conf, engine.RoundUp(4*listeners))
	}
	return ""
}

// Room leaves an eighth of a worker's connections to clients and the owner's own servers,
// and an eighth of the files of the first process, which opens all sockets, to its others.
func (n *Daemon) Room() func(tcp, udp int) (advice string) {
	connections, set := n.connections()
	master, all := n.workers()
	files, known := engine.OpenFiles(master)
	workers := max(1, len(accepting(all)))
	return func(tcp, udp int) string {
		sockets := tcp + udp*workers // see OneWorkerPerFlow
		switch {
		case set && tcp+udp > connections-connections/8:
			return n.moreConnections(tcp + udp)
		case known && sockets > files-files/8:
			return fmt.Sprintf("set LimitNOFILE in nginx' systemd unit to %d or more, and restart nginx", engine.RoundUp(2*sockets))
		}
		return ""
	}
}

// connections that the owner's main file allows a worker.
func (n *Daemon) connections() (int, bool) {
	data, err := os.ReadFile(n.Conf)
	m := setting.FindSubmatch(data)
	if err != nil || m == nil {
		return 0, false
	}
	allowed, err := strconv.Atoi(string(m[1]))
	return allowed, err == nil
}

func (n *Daemon) moreConnections(listeners int) string {
	return fmt.Sprintf("set worker_connections in the events block of %s to %d or more", n.Conf, engine.RoundUp(2*listeners))
}
