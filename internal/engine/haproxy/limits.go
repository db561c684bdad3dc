package haproxy

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
)

// leastConnections are what a balancer needs for all Services together.
const leastConnections = 8192

var (
	globalSection = regexp.MustCompile(`(?m)^global\b`)
	nextSection   = regexp.MustCompile(`(?m)^[a-z]`)
	maxconnIn     = regexp.MustCompile(`(?m)^[ \t]+maxconn[ \t]+(\d+)`)
)

// Short says which of the owner's lines allows too little for a balancer. Where there is
// none, HAProxy takes as many connections as it may open files for.
func (p *installer) Short() []string {
	text, err := os.ReadFile(p.haproxy.Conf)
	if err != nil {
		return nil
	}
	value, line := globalMaxconn(string(text))
	if line == 0 || value >= leastConnections {
		return nil
	}
	return []string{fmt.Sprintf("write `maxconn %d` instead of %d at %s:%d, or leave the line out", leastConnections, value, p.haproxy.Conf, line)}
}

// Holds is what the owner has set, or what HAProxy that runs has worked out by the files that
// it may open.
func (p *installer) Holds() int {
	text, err := os.ReadFile(p.haproxy.Conf)
	if value, line := globalMaxconn(string(text)); err == nil && line > 0 {
		return max(value, leastConnections)
	}
	_, workers := engine.Children(p.haproxy.Settings.PIDFile, "haproxy", "haproxy")
	files := 0
	for _, pid := range workers { // their master has another limit
		n, _ := engine.OpenFiles(pid)
		files = max(files, n)
	}
	return max(files/2, leastConnections)
}

// globalMaxconn finds maxconn of the section global; line is 0 where it is not set.
func globalMaxconn(conf string) (value, line int) {
	at := globalSection.FindStringIndex(conf)
	if at == nil {
		return 0, 0
	}
	section := conf[at[1]:]
	if end := nextSection.FindStringIndex(section); end != nil {
		section = section[:end[0]]
	}
	m := maxconnIn.FindStringSubmatchIndex(section)
	if m == nil {
		return 0, 0
	}
	value, _ = strconv.Atoi(section[m[2]:m[3]]) // digits
	return value, 1 + strings.Count(conf[:at[1]+m[2]], "\n")
}
