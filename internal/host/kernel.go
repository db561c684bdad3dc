package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// kernelSetting is what the kernel must do.
type kernelSetting struct {
	key   string
	value int
	least bool // more is as good
}

// nonlocalBind lets daemons bind addresses that have not arrived yet.
var nonlocalBind = []kernelSetting{
	{key: "net.ipv4.ip_nonlocal_bind", value: 1},
	{key: "net.ipv6.ip_nonlocal_bind", value: 1},
}

// forwards lets IPVS send answers back, and clients know when their node has gone, and
// clients that come back to their node get another one when theirs fails its check.
// The kernel remembers each connection for two minutes after its end, and drops new
// ones when its table is full; what it has room for by default goes with the
// machine's memory: 4,096 with half a gigabyte, which 35 connections a second fill.
var forwards = []kernelSetting{
	{key: "net.ipv4.ip_forward", value: 1},
	{key: "net.ipv6.conf.all.forwarding", value: 1},
	{key: "net.ipv4.vs.conntrack", value: 1},
	{key: "net.ipv4.vs.expire_nodest_conn", value: 1},
	{key: "net.ipv4.vs.expire_quiescent_template", value: 1},
	{key: "net.netfilter.nf_conntrack_buckets", value: 65536, least: true},
	{key: "net.netfilter.nf_conntrack_max", value: 262144, least: true},
}

// now is the value that the kernel has; ok: it has the setting at all.
func (s kernelSetting) now() (value int, ok bool, err error) {
	value, err = readNumber(s.path())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil // a kernel without that family
	}
	return value, err == nil, err
}

func (s kernelSetting) path() string { return "/proc/sys/" + strings.ReplaceAll(s.key, ".", "/") }

func (s kernelSetting) set() error {
	return os.WriteFile(s.path(), []byte(strconv.Itoa(s.value)+"\n"), 0o644)
}

func readNumber(path string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// sysctl sets what the kernel must do, now and after a reboot.
func (in *installer) sysctl(context.Context) error {
	const name = "sysctl"
	var wanted []kernelSetting
	if in.NonlocalBind {
		wanted = append(wanted, nonlocalBind...)
	}
	if in.settings.Engine == EngineLVS {
		wanted = append(wanted, forwards...)
	}
	if len(wanted) == 0 {
		return nil
	}
	text := "# Made by `external-lb host install`.\n"
	for _, s := range wanted {
		value, ok, err := s.now()
		if err != nil {
			return in.fail(name, fmt.Errorf("%s: %w", s.key, err))
		}
		if s.least && value > s.value {
			continue // the owner's
		}
		text += fmt.Sprintf("%s = %d\n", s.key, s.value)
		if !ok {
			continue
		}
		if err := in.step(name, s.key, value == s.value, s.set); err != nil {
			return err
		}
	}
	return in.file(name, "/etc/sysctl.d/60-external-lb.conf", []byte(text), 0o644)
}

const (
	trackedConnections = "/proc/sys/net/netfilter/nf_conntrack_count"
	mostConnections    = "/proc/sys/net/netfilter/nf_conntrack_max"
)

// crowded says when the kernel's table of connections has nearly no room for new ones.
func crowded(countPath, limitPath string) string {
	count, countErr := readNumber(countPath)
	limit, limitErr := readNumber(limitPath)
	if countErr != nil || limitErr != nil || limit == 0 || count*10 < limit*9 {
		return ""
	}
	return fmt.Sprintf("the kernel tracks %d connections of at most %d, and drops new ones when there is no room: raise net.netfilter.nf_conntrack_max in /etc/sysctl.d", count, limit)
}
