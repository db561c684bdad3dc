package host

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

// entry is what is known of a file beside its content.
type entry struct {
	Sum      fileset.Sum
	Fragment bool
	Private  bool
	Listens  []fileset.Socket
	// Key of the item that the file carries, the sum of the bytes that were sent of it,
	// and what the file was made of (see render.File).
	Key  lb.Key
	Item lb.Sum
	From lb.Sum
	// View is the sum of what the file prints, as JSON; zero: that is not kept.
	View lb.Sum
	// Problem is why a template of the owner's did not make it, but the built-in one.
	Problem string
}

// sum changes with the file, and with what the daemon knows of it.
func (e entry) sum() fileset.Sum {
	if e.View == (lb.Sum{}) {
		return e.Sum
	}
	return sha256.Sum256(slices.Concat(e.Sum[:], e.View[:]))
}

// mode of a file on disk.
func (e entry) mode() fs.FileMode {
	if e.Private {
		return privateMode
	}
	return publicMode
}

// index is what a generation holds, by path.
type index map[string]entry

func (x index) manifest() fileset.Manifest {
	m := make(fileset.Manifest, len(x))
	for p, e := range x {
		m[p] = e.sum()
	}
	return m
}

// listeners is how many sockets all files open.
func (x index) listeners() int {
	tcp, udp := x.sockets()
	return tcp + udp
}

// sockets are the listeners, those for datagrams apart.
func (x index) sockets() (tcp, udp int) {
	for _, e := range x {
		t, u := byNetwork(e.Listens)
		tcp, udp = tcp+t, udp+u
	}
	return tcp, udp
}

// contents are what a generation is made of: its files, and what they carry.
type contents struct {
	Files index
	// Items that are carried without a file of their own.
	Items lb.Sums
	// Renderer made the files.
	Renderer string
}

// problem is the first of a template of the owner's; "" if there is none.
func (c *contents) problem() string {
	for _, p := range slices.Sorted(maps.Keys(c.Files)) {
		if why := c.Files[p].Problem; why != "" {
			return p + ": " + why
		}
	}
	return ""
}

// carries are all Items that a generation carries.
func (c *contents) carries() lb.Sums {
	m := maps.Clone(c.Items)
	if m == nil {
		m = lb.Sums{}
	}
	for _, e := range c.Files {
		if e.Key != "" {
			m[e.Key] = e.Item
		}
	}
	return m
}

// jsonContents are contents on disk.
type jsonContents struct {
	Renderer string               `json:"renderer,omitempty"`
	Items    map[lb.Key]string    `json:"items,omitempty"`
	Files    map[string]jsonEntry `json:"files"`
}

type jsonEntry struct {
	Sum      string   `json:"sum"`
	Fragment bool     `json:"fragment,omitempty"`
	Private  bool     `json:"private,omitempty"`
	Listens  []string `json:"listens,omitempty"` // tcp 192.0.2.1:80
	Key      lb.Key   `json:"key,omitempty"`
	Item     string   `json:"item,omitempty"`
	From     string   `json:"from,omitempty"`
	View     string   `json:"view,omitempty"`
	Problem  string   `json:"problem,omitempty"`
}

func (c contents) MarshalJSON() ([]byte, error) {
	j := jsonContents{Renderer: c.Renderer, Items: map[lb.Key]string{}, Files: map[string]jsonEntry{}}
	for key, sum := range c.Items {
		j.Items[key] = digits(sum)
	}
	for p, e := range c.Files {
		f := jsonEntry{
			Sum: digits(lb.Sum(e.Sum)), Fragment: e.Fragment, Private: e.Private,
			Key: e.Key, Item: digits(e.Item), From: digits(e.From), View: digits(e.View), Problem: e.Problem,
		}
		for _, s := range e.Listens {
			f.Listens = append(f.Listens, s.String())
		}
		j.Files[p] = f
	}
	return json.Marshal(j)
}

func (c *contents) UnmarshalJSON(data []byte) error {
	var j jsonContents
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	if j.Files == nil {
		return errors.New("it names no files")
	}
	*c = contents{Files: index{}, Items: lb.Sums{}, Renderer: j.Renderer}
	var errs []error
	sum := func(text string) lb.Sum {
		s, err := parseSum(text)
		errs = append(errs, err)
		return s
	}
	for key, text := range j.Items {
		c.Items[key] = sum(text)
	}
	for p, f := range j.Files {
		e := entry{
			Sum: fileset.Sum(sum(f.Sum)), Fragment: f.Fragment, Private: f.Private,
			Key: f.Key, Item: sum(f.Item), From: sum(f.From), View: sum(f.View), Problem: f.Problem,
		}
		for _, text := range f.Listens {
			network, address, _ := strings.Cut(text, " ")
			at, err := netip.ParseAddrPort(address)
			errs = append(errs, err)
			e.Listens = append(e.Listens, fileset.Socket{Network: network, Address: at})
		}
		c.Files[p] = e
	}
	return errors.Join(errs...)
}

// digits of a sum; "" for the zero Sum.
func digits(sum lb.Sum) string {
	if sum == (lb.Sum{}) {
		return ""
	}
	return hex.EncodeToString(sum[:])
}

func parseSum(text string) (sum lb.Sum, err error) {
	if text == "" {
		return sum, nil
	}
	if n, err := hex.Decode(sum[:], []byte(text)[:min(len(text), 2*len(sum))]); err != nil || n != len(sum) || len(text) != 2*len(sum) {
		return lb.Sum{}, fmt.Errorf("%.70q is not a SHA-256", text)
	}
	return sum, nil
}

// known is what was read of a generation. It is not changed: many share it.
type known struct {
	contents        // but for the host's own file, which is no part of what is carried
	own      *entry // that one; nil: there is none
	digest   func() fileset.Digest
	carries  func() lb.Sums
}

func newKnown(c contents) *known {
	return &known{
		contents: c,
		digest:   sync.OnceValue(func() fileset.Digest { return c.Files.manifest().Digest() }),
		carries:  sync.OnceValue(c.carries),
	}
}

// with the host's own file.
func (k *known) with(own entry) *known {
	k.own = &own
	return k
}

// indexes remembers what was read of the last generations.
type indexes struct {
	mu   sync.Mutex
	last map[string]knownIndex // by generation
}

type knownIndex struct {
	identity // of the file
	*known
}

// of a generation.
func (x *indexes) of(s *store, gen, ownFile string) (*known, error) {
	info, err := s.root.Stat(path.Join(engine.GenerationsDir, gen, indexFile))
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	// Not by its name alone: a generation that was rolled back leaves that to the next.
	if was, ok := x.last[gen]; ok && was.identity == identify(info) {
		return was.known, nil
	}
	c, err := s.readContents(gen)
	if err != nil {
		return nil, err
	}
	own, there := c.Files[ownFile]
	delete(c.Files, ownFile)
	k := newKnown(c)
	if there {
		k = k.with(own)
	}
	x.remember(gen, knownIndex{identify(info), k})
	return k, nil
}

// keep what was just written.
func (x *indexes) keep(s *store, gen string, k *known) error {
	info, err := s.root.Stat(path.Join(engine.GenerationsDir, gen, indexFile))
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.remember(gen, knownIndex{identify(info), k})
	return nil
}

// remember an index. The mu is held.
func (x *indexes) remember(gen string, i knownIndex) {
	if len(x.last) > 2 || x.last == nil { // what is live, what was and what comes
		x.last = map[string]knownIndex{}
	}
	x.last[gen] = i
}

func (s *store) readContents(gen string) (contents, error) {
	data, err := s.readFile(path.Join(engine.GenerationsDir, gen, indexFile), maxRecord)
	if err != nil {
		return contents{}, err
	}
	var c contents
	return c, json.Unmarshal(data, &c)
}
