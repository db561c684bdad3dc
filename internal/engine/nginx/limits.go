package nginx

import (
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
)

// What a worker must be allowed at least to carry the Services of a cluster. A resolver that
// is asked 80 times a second has 1,600 connections, two for each client of the last ten
// seconds: with Debian's 768 for each of two workers, TCP of other Services is reset then.
const (
	leastConnections = 8192
	leastFiles       = 16384
)

var filesSetting = regexp.MustCompile(`(?m)^\s*worker_rlimit_nofile\s+(\d+)\s*;`)

// stated is a number that the owner has set, and where.
type stated struct {
	value int
	at    string // FILE:LINE; "": nowhere
}

// state finds a setting in the owner's files.
func state(files []confFile, setting *regexp.Regexp) (s stated) {
	for _, f := range files {
		m := setting.FindStringSubmatchIndex(f.text)
		if m == nil {
			continue
		}
		s.value, _ = strconv.Atoi(f.text[m[2]:m[3]]) // digits
		s.at = fmt.Sprintf("%s:%d", f.path, 1+strings.Count(f.text[:m[2]], "\n"))
	}
	return s
}

// Short says which of the owner's lines allow too little for a balancer.
func (p *installer) Short() (advice []string) {
	conf := p.nginx.Conf
	switch c := p.owners.connections; {
	case c.at == "":
		advice = append(advice, fmt.Sprintf("write `worker_connections %d;` into the events block of %s", leastConnections, conf))
	case c.value < leastConnections:
		advice = append(advice, fmt.Sprintf("write `worker_connections %d;` instead of %d at %s", leastConnections, c.value, c.at))
	}
	switch f := p.owners.files; {
	case f.at == "" && p.nginx.mayOpen() < leastFiles:
		advice = append(advice, fmt.Sprintf("write `worker_rlimit_nofile %d;` as the first line of %s", leastFiles, conf))
	case f.at != "" && f.value < leastFiles:
		advice = append(advice, fmt.Sprintf("write `worker_rlimit_nofile %d;` instead of %d at %s", leastFiles, f.value, f.at))
	}
	return advice
}

var (
	processesSetting = regexp.MustCompile(`(?m)^\s*worker_processes\s+(\d+)\s*;`)
	aWorkerEach      = regexp.MustCompile(`(?m)^\s*worker_processes\s+auto\s*;`) // for each processor
)

// workersIn is how many workers nginx starts with a configuration.
func workersIn(files []confFile) int {
	if s := state(files, processesSetting); s.at != "" {
		return max(1, s.value)
	}
	if slices.ContainsFunc(files, func(f confFile) bool { return aWorkerEach.MatchString(f.text) }) {
		return runtime.NumCPU()
	}
	return 1
}

// Holds counts two connections for each client: its own, and one to a node.
func (p *installer) Holds() int {
	return max(p.owners.connections.value, leastConnections) * p.owners.workers / 2
}

// mayOpen is how many files a worker that runs may open; 0: none runs.
func (n *Daemon) mayOpen() int {
	_, all := n.workers()
	for pid := range accepting(all) {
		if files, known := engine.OpenFiles(pid); known {
			return files
		}
	}
	return 0
}
