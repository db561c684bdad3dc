package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/external-lb/external-lb/internal/preview"
)

// What lies in a store's directory, as far as daemons and their settings see it.
const (
	LiveLink       = preview.LiveLink
	CandidateLink  = preview.CandidateLink
	BackLink       = "back" // → the files that were live before, until what is live is proved
	GenerationsDir = preview.GenerationsDir
	FilesDir       = preview.FilesDir
)

// Owner of a directory.
func Owner(dir string) (uid, gid int, err error) {
	info, err := os.Stat(dir)
	if err != nil {
		return 0, 0, err
	}
	st := info.Sys().(*syscall.Stat_t)
	return int(st.Uid), int(st.Gid), nil
}

// ReplaceFile writes a file of root's so that it is never seen half written.
func ReplaceFile(path string, data []byte, mode fs.FileMode) error {
	return replace(path, data, mode, -1, -1)
}

// writeTime is longer than a file is written.
const writeTime = time.Minute

var temporary = regexp.MustCompile(`^[0-9]+$`)

// Sweep removes what processes that died while they replaced a file have left beside it. What is young may
// be another process's that is about to finish. What cannot be removed does no harm.
func Sweep(path string) {
	dir, base := filepath.Split(path)
	beside, _ := os.ReadDir(filepath.Clean(dir))
	for _, e := range beside {
		digits, ours := strings.CutPrefix(e.Name(), "."+base+".")
		if !ours || !temporary.MatchString(digits) {
			continue
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > writeTime {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// EditFile changes a file of the machine's owner, who may keep secrets in it: its mode and whose
// it is stay. One that is not there yet is for all to read.
func EditFile(path string, data []byte) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ReplaceFile(path, data, 0o644)
	}
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	return replace(path, data, info.Mode().Perm(), int(st.Uid), int(st.Gid))
}

// replace a file; a uid or gid of -1 is this process's.
func replace(path string, data []byte, mode fs.FileMode, uid, gid int) error {
	dir, base := filepath.Split(path)
	f, err := os.CreateTemp(dir, "."+base+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chown(uid, gid), f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
