package importer

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
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
