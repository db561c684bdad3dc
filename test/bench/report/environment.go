package report

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Environment is where something was measured.
type Environment struct {
	Date   string `json:"date"`
	Commit string `json:"commit"`
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory int    `json:"memoryGigabytes"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	// Versions of what was measured, and of what it was measured with.
	Versions map[string]string `json:"versions"`
	// Loaded: others worked on the machine meanwhile.
	Loaded bool `json:"loaded"`
}

// Here is this machine, and the commit of this directory. It is loaded if somebody says so, or if
// more than half a processor was busy in the minute before.
func Here(ctx context.Context, versions map[string]string, loaded bool) (Environment, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return Environment{}, err
	}
	var memory unix.Sysinfo_t
	if err := unix.Sysinfo(&memory); err != nil {
		return Environment{}, err
	}
	commit, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil { // sources without their history
		commit = []byte("unknown")
	}
	busy, err := load()
	if err != nil {
		return Environment{}, err
	}
	return Environment{
		Date: time.Now().UTC().Format(time.DateOnly), Commit: strings.TrimSpace(string(commit)),
		CPU: processor(), Cores: runtime.NumCPU(), Memory: int(memory.Totalram * uint64(memory.Unit) >> 30),
		Kernel: unix.ByteSliceToString(name.Release[:]), Go: runtime.Version(), Versions: versions,
		Loaded: loaded || busy > 0.5,
	}, nil
}

// Machine in a few words.
func (e Environment) Machine() string {
	return fmt.Sprintf("%d × %s, %d GB, Linux %s", e.Cores, e.CPU, e.Memory, e.Kernel)
}

// load of the last minute.
func load() (float64, error) {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(data), " ")
	return strconv.ParseFloat(first, 64)
}

// processor is the name of the first one, if the kernel knows it.
func processor() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(data)) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
