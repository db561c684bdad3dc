package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// front is a listener as it is configured.
type front struct {
	listen  netip.AddrPort
	connect time.Duration
	tries   int
	from    []netip.Prefix
	to      []netip.AddrPort
	turn    atomic.Uint32
}

// set is what a directory says.
type set struct {
	generation string // "-": none
	fronts     []*front
}

// readConf reads the owner's file, which includes a directory, perhaps.
func readConf(path string) (set, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return set{}, err
	}
	out := set{generation: "-"}
	for line := range strings.Lines(string(text)) {
		switch w := words(line); {
		case len(w) == 0:
		case len(w) != 2 || w[0] != "include":
			return set{}, fmt.Errorf("%s: %q is not `include DIRECTORY`", path, strings.TrimSpace(line))
		default:
			dir, err := filepath.EvalSymlinks(w[1]) // once: what is live may change meanwhile
			if err != nil {
				return set{}, err
			}
			if out, err = readDir(dir); err != nil {
				return set{}, err
			}
			text, err := os.ReadFile(filepath.Join(dir, "generation"))
			if err != nil {
				return set{}, err
			}
			out.generation = strings.TrimSpace(string(text))
		}
	}
	return out, nil
}

// readDir reads the files of a directory. The error names every line that is wrong.
func readDir(dir string) (out set, err error) {
	var wrong []error
	for _, pattern := range []string{"*.conf", "services/*.conf"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return out, err
		}
		for _, path := range files {
			text, err := os.ReadFile(path)
			if err != nil {
				return out, err
			}
			number := 0
			for line := range strings.Lines(string(text)) {
				number++
				if err := out.take(words(line)); err != nil {
					wrong = append(wrong, fmt.Errorf("%s:%d: %w", path, number, err))
				}
			}
		}
	}
	return out, errors.Join(wrong...)
}

// take the words of a line.
func (s *set) take(w []string) (err error) {
	switch {
	case len(w) == 0:
	case len(w) == 4 && w[0] == "listen":
		f := &front{}
		var errs [3]error
		f.listen, errs[0] = netip.ParseAddrPort(w[1])
		f.connect, errs[1] = time.ParseDuration(w[2])
		f.tries, errs[2] = strconv.Atoi(w[3])
		if slices.ContainsFunc(s.fronts, func(o *front) bool { return o.listen == f.listen }) {
			return fmt.Errorf("somebody else listens on %s", f.listen)
		}
		s.fronts = append(s.fronts, f)
		return errors.Join(errs[:]...)
	case len(w) == 2 && w[0] == "from" && len(s.fronts) > 0:
		last := s.fronts[len(s.fronts)-1]
		prefix, err := netip.ParsePrefix(w[1])
		last.from = append(last.from, prefix)
		return err
	case len(w) == 2 && w[0] == "to" && len(s.fronts) > 0:
		last := s.fronts[len(s.fronts)-1]
		at, err := netip.ParseAddrPort(w[1])
		last.to = append(last.to, at)
		return err
	default:
		return fmt.Errorf("unknown directive %q", strings.Join(w, " "))
	}
	return nil
}
