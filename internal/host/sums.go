package host

import (
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
)

// settled is how old a file's last change must be before its times tell it from
// another change: several times the kernel's clock tick.
const settled = 50 * time.Millisecond

// identity tells a file from what it was before a change.
type identity struct {
	inode        uint64
	size         int64
	mtime, ctime syscall.Timespec
}

type summed struct {
	identity
	sum fileset.Sum
}

// sums remembers the sums of files that have not changed since they were read.
type sums struct {
	mu    sync.Mutex
	known map[string]summed // by path, of the last manifest
}

// manifest looks at the files of a generation as they are on disk now, and at what is
// kept of what they print, by the path in the generation. What is not a file has a sum
// that no file has.
func (c *sums) manifest(s *store, gen string) (fileset.Manifest, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	files, err := s.root.OpenRoot(engine.GenerationsDir + "/" + gen)
	if errors.Is(err, fs.ErrNotExist) {
		return fileset.Manifest{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer files.Close() // nothing was written to it
	m, next := fileset.Manifest{}, make(map[string]summed, len(c.known))
	err = fs.WalkDir(files.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // somebody removed it meanwhile
		}
		if err != nil || d.IsDir() || p == indexFile || p == indexFile+tmpSuffix { // the latter while it is replaced
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !info.Mode().IsRegular() {
			m[p] = fileset.Sum{}
			return err
		}
		was, known := c.known[p]
		now := summed{identity: identify(info)}
		if known && was.identity == now.identity {
			now.sum = was.sum
		} else {
			now.sum, err = sumOf(files, p)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
		}
		if known && was.identity == now.identity || time.Since(time.Unix(now.ctime.Unix())) > settled {
			next[p] = now
		}
		m[p] = now.sum
		return nil
	})
	c.known = next
	return m, err
}

// sumOf a file, which somebody may have made larger than memory is.
func sumOf(files *os.Root, p string) (sum fileset.Sum, err error) {
	f, err := files.Open(p)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return fileset.Sum(h.Sum(nil)), err
}

func identify(info fs.FileInfo) identity {
	st := info.Sys().(*syscall.Stat_t)
	return identity{st.Ino, st.Size, st.Mtim, st.Ctim}
}
