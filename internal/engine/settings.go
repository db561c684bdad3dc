package engine

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Settings are the part of a machine's settings that is for one daemon. Commands in
// it are argument lists; no shell sees them.
type Settings interface {
	// SetDefaults of what is not set. root is below which everything is written, dir
	// that of the daemon's store; with sudo, commands that take root go through it.
	SetDefaults(root, dir string, sudo bool)
	// Validate says what is wrong, with the names in host.yaml.
	Validate() []error
}

// CheckPaths says which paths cannot be printed into any file, by name.
func CheckPaths(paths map[string]string) (errs []error) {
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		if path := paths[name]; !filepath.IsAbs(path) || filepath.Clean(path) != path || !PlainPath(path) {
			errs = append(errs, fmt.Errorf("%s: %q is not a clean absolute path of letters, digits and /._-", name, path))
		}
	}
	return errs
}

// Duration is a time.Duration that reads 10s in YAML.
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err == nil && parsed <= 0 {
		err = fmt.Errorf("%q is not positive", text)
	}
	*d = Duration(parsed)
	return err
}

// MarshalText prints 10s.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// SetDefaultDuration sets a Duration that is not set.
func SetDefaultDuration(field *Duration, value time.Duration) {
	if *field == 0 {
		*field = Duration(value)
	}
}

// SetDefault sets a text that is not set.
func SetDefault(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

// SetDefaultCommand sets a command that is not set, with sudo before it or without.
func SetDefaultCommand(field *[]string, sudo bool, argv ...string) {
	if len(*field) > 0 {
		return
	}
	if sudo {
		argv = append([]string{"sudo", "-n"}, argv...)
	}
	*field = argv
}

// PlainPath reports whether a path can be printed into any configuration file.
func PlainPath(path string) bool {
	return !strings.ContainsFunc(path, func(r rune) bool {
		return !strings.ContainsRune("/._-", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}
