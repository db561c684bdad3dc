package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
)

// Cached is what build makes at a path, once for all clusters of this machine, and again when from changes,
// which is all that it is made of. Who comes meanwhile waits.
func Cached(name, from string, build func(path string) error) (string, error) {
	root, err := cacheRoot()
	if err != nil {
		return "", err
	}
	unlock, err := lockFile(filepath.Join(root, name+".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	hash := sha256.Sum256([]byte(from))
	target := filepath.Join(root, name+"-"+hex.EncodeToString(hash[:8]))
	if exists(target) {
		return target, nil
	}
	dir, err := os.MkdirTemp(root, name+"-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	made := filepath.Join(dir, name)
	if err := build(made); err != nil {
		return "", err
	}
	return target, os.Rename(made, target)
}
