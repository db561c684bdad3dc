package engine

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Use is how much of something that all Services share is in use.
type Use struct {
	Used, Limit int // 0 as Limit: it is not known
}

// Crowded reports whether so many hundredths or more are in use.
func (u Use) Crowded(percent int) bool { return u.Limit > 0 && u.Used*100 >= u.Limit*percent }

// Fuller is that of two which is nearer to its limit.
func (u Use) Fuller(o Use) Use {
	if o.Limit > 0 && (u.Limit <= 0 || o.Used*u.Limit > u.Used*o.Limit) {
		return o
	}
	return u
}

// Uses are what a daemon uses of what all its Services share.
type Uses struct{ Connections, Files Use }

// Measurer says how much a daemon uses.
type Measurer interface {
	// Uses of the daemon, of which pid answers, with so many listeners for datagrams and others.
	Uses(ctx context.Context, tcp, udp, pid int) Uses
}

// ProcessOwner is the user of a process; ok: it is known.
func ProcessOwner(pid int) (uid int, ok bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	_, after, found := bytes.Cut(data, []byte("\nUid:\t"))
	fields := strings.Fields(string(after[:min(len(after), 64)]))
	if !found || len(fields) < 2 {
		return 0, false
	}
	uid, err = strconv.Atoi(fields[1]) // the effective one
	return uid, err == nil
}

// Sockets that a user's programs have on this machine: connections, and those for
// datagrams that talk to one address.
func Sockets(uid int) (tcp, udp int) {
	owner := strconv.Itoa(uid)
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		f, err := os.Open("/proc/self/net/" + table)
		if err != nil {
			continue // a kernel without that family
		}
		n := 0
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if connectedOf(lines.Bytes(), owner) {
				n++
			}
		}
		f.Close() // only read
		if strings.HasPrefix(table, "tcp") {
			tcp += n
		} else {
			udp += n
		}
	}
	return tcp, udp
}

// connectedOf reports whether a line of /proc/net/tcp is of a user's socket that is neither
// listening nor about to be forgotten: "0: LOCAL REMOTE STATE QUEUES TIMER RETRIES UID …".
func connectedOf(line []byte, owner string) bool {
	fields := bytes.Fields(line)
	if len(fields) < 8 || string(fields[7]) != owner || bytes.HasSuffix(fields[2], []byte(":0000")) {
		return false
	}
	return string(fields[3]) != "06" // TIME_WAIT
}
