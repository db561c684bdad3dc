package host

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
)

// Use is how much of something is in use.
type Use = engine.Use

// Uses are what a machine uses of what all its Services share. Of several daemons that
// have connections or files, those of the one that is nearest to its limit.
type Uses struct {
	engine.Uses
	Memory  Use // of the machine, in bytes
	Old     Use // memory that processes of earlier configurations hold and may hold
	Tracked Use // connections that the kernel tracks, for its packet filter or IPVS
}

// NamedUse is one of Uses.
type NamedUse struct {
	Name  string
	Bytes bool // else it is a number of things
	Use
}

// All are those that there are.
func (u Uses) All() []NamedUse {
	return []NamedUse{
		{"connections", false, u.Connections}, {"files", false, u.Files}, {"memory", true, u.Memory}, {"memory of old workers", true, u.Old},
		{"tracked connections", false, u.Tracked},
	}
}

// Alike reports whether two Uses tell a reader the same: what is in use changes all the time.
func (u Uses) Alike(o Uses) bool {
	others := o.All()
	for i, one := range u.All() {
		if one.twentieths() != others[i].twentieths() {
			return false
		}
	}
	return true
}

func (u NamedUse) twentieths() int {
	if u.Limit <= 0 {
		return -1
	}
	return u.Used * 20 / u.Limit
}

// memoryUse is what programs use of this machine's memory.
func memoryUse() engine.Use {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return engine.Use{}
	}
	return memoryUseOf(string(data))
}

// memoryUseOf reads /proc/meminfo: "MemTotal:  4030188 kB".
func memoryUseOf(text string) engine.Use {
	of := func(name string) int {
		_, after, _ := strings.Cut(text, name+":")
		number, _, _ := strings.Cut(strings.TrimSpace(after), " ")
		n, _ := strconv.Atoi(number) // 0: it is not there
		return n << 10
	}
	total := of("MemTotal")
	return engine.Use{Used: max(0, total-of("MemAvailable")), Limit: total}
}

// trackedUse is what is in use of the kernel's table of connections. A kernel that tracks none has
// no such table.
func trackedUse() engine.Use {
	const table = "/proc/sys/net/netfilter/nf_conntrack_"
	count, countErr := engine.ReadNumber(table + "count")
	limit, limitErr := engine.ReadNumber(table + "max")
	if countErr != nil || limitErr != nil {
		return engine.Use{}
	}
	return engine.Use{Used: count, Limit: limit}
}

// tableFull is how many hundredths of the kernel's table are in use when that is told.
const tableFull = 90

// crowdedTable says when the kernel has nearly no room for new connections; "" if it has.
func crowdedTable(tracked engine.Use) string {
	if !tracked.Crowded(tableFull) {
		return ""
	}
	return fmt.Sprintf("the kernel tracks nearly as many connections as it may, %d, and drops new ones when there is no room: "+
		"raise it with `sysctl -w net.netfilter.nf_conntrack_max=N`, and in a file of your own in /etc/sysctl.d", tracked.Limit)
}
