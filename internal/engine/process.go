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

func parent(pid int) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name in parentheses may hold anything.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	ppid, _ := strconv.Atoi(fields[1]) // 0 is nobody's parent
	return ppid
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
