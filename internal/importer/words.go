package importer

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
)

// Duration is a time as our kinds write it.
func Duration(d time.Duration) (v1alpha1.Duration, error) {
	if d < time.Millisecond || d > 24*time.Hour {
		return "", fmt.Errorf("%s is not between 1ms and 24h", d)
	}
	s := d.String()
	for _, unit := range []string{"m", "h"} { // 1m0s is 1m
		if strings.HasSuffix(s, unit+"0s") || strings.HasSuffix(s, unit+"0m") {
			s = s[:len(s)-2]
		}
	}
	return v1alpha1.Duration(s), nil
}

var units = map[string]time.Duration{
	"us": time.Microsecond, "ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
	"w": 7 * 24 * time.Hour,
}

// Time reads one such as 1m30s, 500ms or 10; a number alone is in units of alone.
func Time(text string, alone time.Duration) (v1alpha1.Duration, error) {
	var sum time.Duration
	rest := text
	for first := true; rest != "" || first; first = false {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		n, err := strconv.ParseInt(rest[:digits], 10, 32)
		if err != nil {
			return "", fmt.Errorf("%q is not a time", text)
		}
		rest = rest[digits:]
		letters := len(rest) - len(strings.TrimLeft(rest, "dhmsuw"))
		unit, known := units[rest[:letters]]
		if letters == 0 {
			unit, known = alone, rest == ""
		}
		if !known {
			return "", fmt.Errorf("%q is not a time", text)
		}
		rest = rest[letters:]
		if sum += time.Duration(n) * unit; sum > 1000*24*time.Hour {
			sum = 1000 * 24 * time.Hour // enough to be too long, and no overflow
		}
	}
	return Duration(sum)
}

// KeepAlive reads after how much silence TCP asks who is there.
func KeepAlive(text string) (v1alpha1.Duration, error) {
	d, err := Time(text, time.Second)
	if err != nil {
		return "", err
	}
	if span, _ := time.ParseDuration(string(d)); span < lb.MinKeepAlive || span > lb.MaxKeepAlive {
		return "", fmt.Errorf("%s is not between 1s and 9h", d)
	}
	return d, nil
}

// From adds an address from which nodes are connected to.
func From(all []v1alpha1.SourceAddress, text string) ([]v1alpha1.SourceAddress, error) {
	a, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if a = a.Unmap(); err != nil || a.Zone() != "" || !a.IsGlobalUnicast() {
		return all, fmt.Errorf("%q is not one address of a machine", text)
	}
	for _, one := range all {
		if one == v1alpha1.SourceAddress(a.String()) {
			return all, nil
		}
		if strings.Contains(string(one), ":") == a.Is6() {
			return all, fmt.Errorf("%s is read already: all nodes are connected to from one address", one)
		}
	}
	return append(all, v1alpha1.SourceAddress(a.String())), nil
}

// Number reads one of a setting, between least and most.
func Number(text string, least, most int64) (*int32, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < least || n > most {
		return nil, fmt.Errorf("%q is not a number between %d and %d", text, least, most)
	}
	out := int32(n)
	return &out, nil
}

// Prefix reads a range, or an address as the range of one.
func Prefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not a range of addresses", text)
	}
	return p.Masked(), nil
}

// CheckPath reads the path of a health check. It reports whether ours can ask for it.
func CheckPath(text string) (string, bool) {
	ok := len(text) <= 256 && strings.HasPrefix(text, "/") && strings.IndexFunc(text, func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !letter && !strings.ContainsRune("-._~/%", r)
	}) < 0
	return text, ok
}

// CheckHost reads the name that a health check asks for. It reports whether ours can.
func CheckHost(text string) (string, bool) {
	text = strings.ToLower(text)
	return text, text != "" && lb.SafeHost(text)
}

var statuses = regexp.MustCompile(`^[1-5][0-9]{2}(-[1-5][0-9]{2})?$`)

// CheckStatus reports whether a text is a status, or a range of them, as ours.
func CheckStatus(text string) bool {
	first, last, _ := strings.Cut(text, "-")
	return statuses.MatchString(text) && (last == "" || first <= last)
}

// Weights tells of servers that have different ones.
func (n *Notes) Weights(at Place, whose string) {
	n.Add(at, "%sits servers have different weights, which a Service has not. A node has one for all Services: kubectl annotate node NAME "+
		"%s=2. With externalTrafficPolicy: Local its pods count", whose, v1alpha1.WeightAnnotation)
}

// Backup is what to do for a server that waits for the others.
const Backup = "a node waits for all others where its label is in spec.nodes.backup of the Balancer, for all Services"

// Logged is what to know of logs.
const Logged = "connections are logged as the host's own file says; accessLog: false of a policy turns that off"
