package engine

import (
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

// Engine is software that carries traffic on the hosts.
type Engine struct {
	Name string // as in spec.engine of a Balancer, in host.yaml and in templates/
	Capabilities
	Rendering
	Software
}

// String is the Engine's name; "none" of none.
func (e *Engine) String() string {
	if e == nil {
		return "none"
	}
	return e.Name
}

// Rendering is how the model becomes files. All of it is pure.
type Rendering struct {
	// Templates are the built-in ones: service.conf.tmpl prints a Service, main.conf.tmpl
	// the file that stands for the whole set, http.conf.tmpl what View has beside, and
	// others parts of these.
	Templates fs.FS
	// View is what templates print of a Service. It is the last gate before a file
	// that a daemon runs: it refuses what cannot be printed safely or carried.
	View func(*Service) (View, error)
	// Main is what templates print for the file that stands for the whole set.
	Main func(shared []Shared) any
	// Facts are what a file says that custom templates cannot change.
	Facts func(file []byte) Facts
	// Keeps: the daemon must know what templates print, so it is kept with each file, as
	// JSON (see Set). A field of it that gets another meaning gets another name.
	Keeps bool
}

// View is what templates print of a Service, and what it needs beside that.
type View struct {
	Data    any
	Listens []fileset.Socket
	Shared  []Shared
	// HTTP is what the Service has in a file of its own, where the daemon reads what it
	// understands as HTTP elsewhere. nil: nothing.
	HTTP *View
}

// Shared is what Services have in common in the main file, such as the check of a
// node that all of them follow. It is comparable: what is equal is there once.
type Shared any

// Addresses is software that agrees with the other hosts of a Balancer which of
// them has its addresses.
type Addresses struct {
	Name string // as in host.yaml and in templates/
	// Router is the path of a virtual router's file.
	Router string
	// Brings is the address that a file brings to the active host, by the file's path.
	Brings func(path string) (netip.Addr, bool)
	// Files are the file of a virtual router and one for each address that it brings,
	// in their order.
	Files func(v *lb.VRRP, addresses []netip.Addr) (router Printed, each []Printed, err error)
	Software
}

// Printed is a file, and what was printed, which is kept with it.
type Printed struct {
	fileset.File
	View any
}

// Table is all software that there is for hosts.
type Table struct {
	Engines []*Engine // in the order of the documentation; the first is the default
	// Datagrams is the one of Engines that can carry datagrams beside another; nil: none.
	Datagrams *Engine
	VRRP      *Addresses
}

// Find is the Engine of a name; nil if there is none.
func (t *Table) Find(name string) *Engine {
	i := slices.IndexFunc(t.Engines, func(e *Engine) bool { return e.Name == name })
	if i < 0 {
		return nil
	}
	return t.Engines[i]
}

// Names of all Engines.
func (t *Table) Names() []string {
	names := make([]string, len(t.Engines))
	for i, e := range t.Engines {
		names[i] = e.Name
	}
	return names
}

// List lists the names: "a, b or c".
func (t *Table) List() string {
	names := t.Names()
	last := len(names) - 1
	if last == 0 {
		return names[0]
	}
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// Default is the name of the Engine where nobody says another.
func (t *Table) Default() string { return t.Engines[0].Name }
