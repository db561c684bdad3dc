// Package importer turns what others keep by hand, or keep for another provider, into
// our kinds and into changes of Services; and it says what has no equal. It is pure: files,
// objects and answers are handed in. Each source has a room below it, which reads its own
// language into a Configuration.
package importer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/text"
)

// Bounds of what is read. A hand-kept configuration is far below them.
const (
	MaxBytes   = 8 << 20 // of all files
	MaxFiles   = 1000
	MaxLine    = 64 << 10
	MaxNesting = 20 // of blocks, and of files in files
)

// File is one that is read.
type File struct{ Name, Text string }

// Include finds the files that a configuration names, by a path or a pattern.
type Include func(pattern string) ([]File, error)

// Place is a line of a file.
type Place struct {
	File string
	Line int
}

func (p Place) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Note is something that is not carried over as it stands, and what to do about it.
type Note struct {
	Place Place
	Text  string
}

func (n Note) String() string {
	if n.Place == (Place{}) {
		return n.Text
	}
	return n.Place.String() + ": " + n.Text
}

// Notes are collected while reading.
type Notes []Note

// Add one, with the words of fmt.Sprintf.
func (n *Notes) Add(at Place, format string, args ...any) {
	*n = append(*n, Note{at, text.Plain(fmt.Sprintf(format, args...), mostWords)})
}

// mostWords of a note: what comes from a file is not to look like more than a remark.
const mostWords = 4 << 10

// Sorted by file, line and text, each once.
func (n Notes) Sorted() Notes {
	out := slices.Clone(n)
	slices.SortFunc(out, func(a, b Note) int {
		return cmp.Or(cmp.Compare(a.Place.File, b.Place.File), cmp.Compare(a.Place.Line, b.Place.Line), cmp.Compare(a.Text, b.Text))
	})
	return slices.Compact(out)
}

// Listener is where a configuration listens.
type Listener struct {
	Address  netip.Addr // the zero Addr: every address of the machine
	Port     uint16
	Protocol corev1.Protocol
}

// Server is one of those that traffic is sent to.
type Server struct {
	Place Place
	Host  string
	Port  uint16
}

// Frontend is what a configuration listens on, and where it sends that.
type Frontend struct {
	Place     Place
	Listeners []Listener
	Servers   []Server
	Settings  v1alpha1.UpstreamSettings
	// Sources may connect. None: everybody.
	Sources []netip.Prefix
	// Certificate and key are the files with which TLS is terminated. "": it is not.
	Certificate, Key string
	// Affinity is how long a client stays on its node, in seconds. 0: it need not.
	Affinity int32
	// Problem is why it has no equal, "" if it has one.
	Problem string
}

// Configuration is what a source says, in our words.
type Configuration struct {
	Frontends []Frontend
	// VRRP says how the machines agree on who has the addresses, nil if they do not.
	VRRP *v1alpha1.VRRPSettings
	// Direct: packets reach the nodes as they came.
	Direct bool
	Notes  Notes
}

// Source reads the configuration of one software.
type Source struct {
	Name    string
	Engine  v1alpha1.Engine // that carries it on, if nothing else is said
	Reads   string          // for people
	Example string
	Parse   func(files []File, include Include) (*Configuration, error)
}
