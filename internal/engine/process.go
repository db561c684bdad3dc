package engine

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Children of the process in a pid file, by the beginning of their command line;
// master is 0 if that process does not run.
func Children(pidFile, masterTitle, title string) (master int, all []int) {
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return 0, nil
	}
	master, err = strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || !bytes.Contains(CommandLine(master), []byte(masterTitle)) {
		return 0, nil
	}
	names, err := os.ReadDir("/proc")
	if err != nil {
		return master, nil
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name.Name())
		if err == nil && parent(pid) == master && bytes.Contains(CommandLine(pid), []byte(title)) {
			all = append(all, pid)
		}
	}
	return master, all
}

// CommandLine of a process; empty once it has gone.
func CommandLine(pid int) []byte {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // a process that has gone has none
	return data
}

func parent(pid int) int { return stat(pid, 1) } // 0 is nobody's parent

// stat is a number of /proc/PID/stat, counted from behind the name; 0: there is none.
func stat(pid, field int) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name in parentheses may hold anything.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) <= field {
		return 0
	}
	n, _ := strconv.Atoi(fields[field])
	return n
}

// Process is one that runs.
type Process struct {
	PID     int
	Started int // in ticks since boot
	Memory  int // in bytes, without what it shares with others by files and segments
}

// ProcessOf looks at a process; ok: it is there.
func ProcessOf(pid int) (p Process, ok bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	var size, resident, shared int
	if err == nil {
		_, err = fmt.Sscan(string(data), &size, &resident, &shared)
	}
	p = Process{PID: pid, Started: stat(pid, 19), Memory: max(0, resident-shared) * os.Getpagesize()}
	return p, err == nil && p.Started > 0
}

// OpenFiles is how many files a process may open.
func OpenFiles(pid int) (int, bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	m := openFilesLimit.FindSubmatch(data)
	if err != nil || m == nil {
		return 0, false
	}
	n, err := strconv.Atoi(string(m[1]))
	return n, err == nil
}

var openFilesLimit = regexp.MustCompile(`(?m)^Max open files\s+(\d+)`)

// RoundUp to a number that looks chosen.
func RoundUp(n int) int { return (n + 1023) / 1024 * 1024 }

// Older compares a version such as nginx/1.22.1 with the oldest that will do.
func Older(version, product string, oldest [3]int) bool {
	var v [3]int
	number, ok := strings.CutPrefix(version, product+"/")
	if !ok {
		return false // what it cannot do, it will say itself
	}
	n, _ := fmt.Sscanf(number, "%d.%d.%d", &v[0], &v[1], &v[2]) // a release in the making may have no third number
	return n >= 2 && slices.Compare(v[:], oldest[:]) < 0
}
