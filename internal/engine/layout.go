package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// What lies in a store's directory, as far as daemons and their settings see it.
const (
	LiveLink       = "live"      // → the files that the daemon includes
	CandidateLink  = "candidate" // → the files that the isolated check includes
	BackLink       = "back"      // → the files that were live before, until what is live is proved
	GenerationsDir = "gen"       // gen/7/files
	FilesDir       = "files"
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
	dir, base := filepath.Split(path)
	f, err := os.CreateTemp(dir, "."+base+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
