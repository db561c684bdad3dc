package engine

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// KernelSetting is what the kernel must do.
type KernelSetting struct {
	Key   string
	Value int
	Least bool // more is as good
}

// Now is the value that the kernel has; ok: it has the setting at all.
func (s KernelSetting) Now() (value int, ok bool, err error) {
	value, err = ReadNumber(s.path())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil // a kernel without that family
	}
	return value, err == nil, err
}

func (s KernelSetting) path() string { return "/proc/sys/" + strings.ReplaceAll(s.Key, ".", "/") }

// Set gives the kernel the value.
func (s KernelSetting) Set() error {
	return os.WriteFile(s.path(), []byte(strconv.Itoa(s.Value)+"\n"), 0o644)
}

// ReadNumber reads a file of the kernel that holds one.
func ReadNumber(path string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
