package fileset

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Sum is the SHA-256 of one file's content.
type Sum [sha256.Size]byte

// Networks are those of a Socket.
var Networks = []string{"tcp", "udp", "sctp"}

// Socket is an address that a file makes the daemon listen on.
type Socket struct {
	Network string // one of Networks
	Address netip.AddrPort
}

// String prints a Socket as tcp 192.0.2.1:80.
func (s Socket) String() string { return s.Network + " " + s.Address.String() }

// File is one file of a configuration. It is made by NewFile and not changed.
type File struct {
	// Path below the root of the set, with forward slashes.
	Path string
	Data []byte
	Sum  Sum
	// Listens are the sockets that the daemon opens for this file, which a host
	// can probe before it reloads.
	Listens []Socket
	// Fragment is true for a file that can be left out without harm to the others.
	Fragment bool
	// Private is true for a file that nobody but a host's account and root may
	// read, and that nobody prints.
	Private bool
}

var safePath = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]*(/[a-z0-9][a-z0-9_.-]*)*$`)

// NewFile makes a File that stands for the whole set: without it, nothing goes live.
func NewFile(path string, data []byte) (File, error) {
	if !safePath.MatchString(path) || strings.Contains(path, "..") || len(path) > 255 {
		return File{}, fmt.Errorf("path %q: want parts of [a-z0-9_.-], joined by slashes, 255 bytes at most", path)
	}
	return File{Path: path, Data: data, Sum: sha256.Sum256(data)}, nil
}

// NewFragment makes a File that can be left out without harm to the others.
func NewFragment(path string, data []byte, listens []Socket) (File, error) {
	f, err := NewFile(path, data)
	f.Fragment, f.Listens = true, listens
	return f, err
}

// NewPrivate makes a File that nobody but a host's account and root may read. It
// is loaded by what names it, not by itself.
func NewPrivate(path string, data []byte) (File, error) {
	f, err := NewFile(path, data)
	f.Private = true
	return f, err
}

// Digest names the content of a whole set: 64 lower-case hexadecimal digits.
type Digest string

// Short is the first 12 digits, for people.
func (d Digest) Short() string { return string(d[:min(12, len(d))]) }

// Manifest is what a set contains, without the content.
type Manifest map[string]Sum

// Digest of the set that a Manifest describes.
func (m Manifest) Digest() Digest {
	h := sha256.New()
	for _, path := range slices.Sorted(maps.Keys(m)) {
		sum := m[path]
		fmt.Fprintf(h, "%s\x00", path)
		h.Write(sum[:])
	}
	return Digest(hex.EncodeToString(h.Sum(nil)))
}

// Set is an immutable set of files with distinct paths.
type Set struct {
	files    []File // sorted by Path
	manifest Manifest
	digest   Digest
}

// New makes a Set. Two files with one path are an error.
func New(files ...File) (*Set, error) {
	s := &Set{files: slices.Clone(files), manifest: make(Manifest, len(files))}
	slices.SortFunc(s.files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	for _, f := range s.files {
		if _, twice := s.manifest[f.Path]; twice {
			return nil, fmt.Errorf("two files for the path %s", f.Path)
		}
		s.manifest[f.Path] = f.Sum
	}
	s.digest = s.manifest.Digest()
	return s, nil
}

// Digest of the set.
func (s *Set) Digest() Digest { return s.digest }

// Manifest of the set. It is shared: do not change it.
func (s *Set) Manifest() Manifest { return s.manifest }

// Len is the number of files.
func (s *Set) Len() int { return len(s.files) }

// All files, sorted by path.
func (s *Set) All() iter.Seq[File] { return slices.Values(s.files) }

// Get finds a file by its path.
func (s *Set) Get(path string) (File, bool) {
	i, ok := slices.BinarySearchFunc(s.files, path, func(f File, p string) int { return strings.Compare(f.Path, p) })
	if !ok {
		return File{}, false
	}
	return s.files[i], true
}

// Without returns a Set that lacks some paths.
func (s *Set) Without(paths ...string) *Set {
	out := make(map[string]bool, len(paths))
	for _, path := range paths {
		out[path] = true
	}
	kept := make([]File, 0, len(s.files))
	for _, f := range s.files {
		if !out[f.Path] {
			kept = append(kept, f)
		}
	}
	rest, _ := New(kept...) // distinct paths stay distinct
	return rest
}

// Change is what turns one set into another.
type Change struct {
	Put    []File   // new or different, sorted by path
	Delete []string // sorted
}

// Empty reports whether there is nothing to do.
func (c Change) Empty() bool { return len(c.Put) == 0 && len(c.Delete) == 0 }

// Diff is the Change that turns what a host has into a Set.
func Diff(have Manifest, want *Set) Change {
	var c Change
	for _, f := range want.files {
		if sum, ok := have[f.Path]; !ok || sum != f.Sum {
			c.Put = append(c.Put, f)
		}
	}
	for path := range have {
		if _, ok := want.manifest[path]; !ok {
			c.Delete = append(c.Delete, path)
		}
	}
	slices.Sort(c.Delete)
	return c
}
