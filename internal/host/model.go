package host

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/external-lb/external-lb/internal/lb"
)

// What lies in the directory of the model.
const (
	itemsDir      = "items"      // the bytes of an Item, under its sum
	wantedFile    = "wanted"     // what is wanted: a line "SUM KEY" for each Item
	modelState    = "state.json" // a modelRecord
	outcomeFile   = "refused.json"
	ownFile       = "own"             // what is the owner's, as wantedFile
	maxWantedFile = lb.MaxItems * 400 // bytes
)

// maxExtent of a model, also of what is refused: there must be memory for all of it, and a
// listener takes eight times its bytes.
var maxExtent = extent{lb.MaxListeners, lb.MaxAllEndpoints}

// extent of Services.
type extent struct{ listeners, endpoints int }

func (e extent) plus(o extent) extent {
	return extent{e.listeners + o.listeners, e.endpoints + o.endpoints}
}

// modelRecord is what must outlive a process.
type modelRecord struct {
	Cluster string `json:"cluster,omitempty"` // that delivers to this machine; "": none has yet
	Epoch   Epoch  `json:"epoch"`
}

// wanted is a whole model. Its maps are not changed once made.
type wanted struct {
	items
	own items // the owner's: carried whatever else is wanted
}

// items are wanted, or some of those that are.
type items struct {
	sums  lb.Manifest
	parts map[lb.Key]any // decoded: or the error why not
}

func noItems() items { return items{parts: map[lb.Key]any{}} }

// model is what a host keeps of what it was sent: every Item by its sum, as it
// came, and which of them are wanted. Only the account can read it: Items hold keys.
type model struct {
	*store
	record modelRecord
	lost   error // the record is damaged or gone: nobody knows who delivers, so nobody does before root says who may
	wanted wanted
	sizes  map[lb.Sum]int // in bytes, of Items on the disk

	file    identity // of what is wanted, on the disk
	ownFile identity // of what is the owner's
	ownErr  error    // it cannot be read: nothing is delivered until the owner says it again
	cleaned bool     // no other Items than those of sizes are on the disk

	outcome struct {
		sync.Mutex
		file    identity // that was read
		refused []lb.Refusal
	}
}

// openModel reads what is wanted. What cannot be read is not wanted: the next
// delivery finds another base, and all of it is sent again.
func openModel(dir string) (*model, error) {
	s, err := openStore(dir)
	if err != nil {
		return nil, err
	}
	m := &model{store: s, wanted: wanted{noItems(), noItems()}, sizes: map[lb.Sum]int{}}
	if m.record, err = m.recorded(); errors.Is(err, errDamaged) {
		m.lost = err
	} else if err != nil {
		return nil, errors.Join(err, s.close())
	}
	m.file, m.ownFile = m.onDisk(wantedFile), m.onDisk(ownFile) // before they are read: one that comes meanwhile is another
	if m.wanted.items, err = m.readList(wantedFile); err != nil {
		m.wanted.items = noItems()
	}
	m.wanted.own, m.ownErr = m.readList(ownFile)
	return m, nil
}

// current reports whether the model on the disk is the one that was read.
func (m *model) current() bool {
	now, err := m.recorded()
	same := err == nil && m.lost == nil || errors.Is(err, errDamaged) && m.lost != nil
	return same && now == m.record && m.onDisk(wantedFile) == m.file && m.onDisk(ownFile) == m.ownFile
}

// recorded is the record on the disk; the zero one if there is none yet. One that is damaged or gone is
// never taken for that: whoever has led once could deliver again.
func (m *model) recorded() (modelRecord, error) {
	delivered := m.exists(wantedFile) || m.exists(ownFile) // asked first: the record is always written before these
	data, err := m.readFile(modelState, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		if delivered {
			return modelRecord{}, m.damaged(modelState, "it is gone")
		}
		return modelRecord{}, nil
	}
	if err != nil {
		return modelRecord{}, err
	}
	var r struct {
		modelRecord
		Epoch *Epoch `json:"epoch"`
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return modelRecord{}, m.damaged(modelState, err)
	}
	if r.Epoch == nil {
		return modelRecord{}, m.damaged(modelState, "it names no epoch")
	}
	return modelRecord{Cluster: r.Cluster, Epoch: *r.Epoch}, nil
}

// onDisk tells a file of the model from what it was before.
func (m *model) onDisk(name string) identity {
	info, err := m.root.Lstat(name)
	if err != nil {
		return identity{}
	}
	return identify(info)
}

// readList reads a part of what is wanted; nothing where there is no file.
func (m *model) readList(name string) (items, error) {
	p := noItems()
	text, err := m.readFile(name, maxWantedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	sums := lb.Sums{}
	for line := range strings.Lines(string(text)) {
		text, key, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		sum, err := parseSum(text)
		if err != nil {
			p.sums = sums.Manifest()
			return p, err
		}
		sums[lb.Key(key)] = sum
	}
	p.sums = sums.Manifest()
	for key, sum := range sums {
		it, err := m.item(key, sum)
		if err != nil {
			return p, err
		}
		p.parts[key] = decoded(it)
	}
	return p, nil
}

// decoded is what an Item says, or the error why it says nothing.
func decoded(it lb.Item) any {
	part, err := lb.Decode(it)
	if err != nil {
		return err
	}
	return part
}

func itemPath(sum lb.Sum) string { return itemsDir + "/" + hex.EncodeToString(sum[:]) }

// item reads an Item that was sent once, and refuses bytes that are not it.
func (m *model) item(key lb.Key, sum lb.Sum) (lb.Item, error) {
	data, err := m.readFile(itemPath(sum), lb.MaxSetBytes)
	if err != nil {
		return lb.Item{}, err
	}
	it := lb.NewItem(key, data)
	if it.Sum != sum {
		return lb.Item{}, fmt.Errorf("%s: its bytes have changed on the disk", key.Describe())
	}
	m.sizes[sum] = len(data)
	return it, nil
}

// older is what was sent once; nil if it cannot be read.
func (m *model) older(key lb.Key, sum lb.Sum) any {
	it, err := m.item(key, sum)
	if err != nil {
		return nil
	}
	return decoded(it)
}

// take writes down the epoch of a delivery before anything is done in its name, and
// keeps what came with it. What it makes wanted is so once it is carried: see commit.
func (m *model) take(d Delivery, mu sync.Locker) (*wanted, error) {
	if m.lost != nil {
		return nil, m.lost
	}
	if err := m.record.takes(d); err != nil {
		return nil, err
	}
	next, err := m.changed(d)
	if err != nil {
		return nil, err
	}
	if err := m.writeItems(d.Change.Put); err != nil {
		return nil, err
	}
	return next, m.note(m.record.next(d), mu)
}

// note who delivers, so that it holds after a power failure.
func (m *model) note(r modelRecord, mu sync.Locker) error {
	if err := m.replaceJSON(modelState, r, privateMode); err != nil {
		return err
	}
	mu.Lock()
	m.record, m.lost = r, nil
	mu.Unlock()
	return nil
}

// commit makes something wanted for good.
func (m *model) commit(next *wanted, mu sync.Locker) error {
	if !next.own.sums.Equal(m.wanted.own.sums) || m.ownErr != nil {
		if err := m.writeList(ownFile, next.own.sums); err != nil {
			return err
		}
	}
	if !next.sums.Equal(m.wanted.sums) {
		if err := m.writeList(wantedFile, next.sums); err != nil {
			return err
		}
	}
	mu.Lock()
	m.wanted, m.file, m.ownFile, m.ownErr = *next, m.onDisk(wantedFile), m.onDisk(ownFile), nil
	mu.Unlock()
	return nil
}

// changed is what would be wanted after a delivery.
func (m *model) changed(d Delivery) (*wanted, error) {
	if have := m.wanted.sums.Digest(); have != d.Base {
		return nil, &Error{Code: CodeBaseMismatch, Message: "this machine has the model " + have.Short() + ", not " + d.Base.Short() + ", from which the change starts"}
	}
	if m.ownErr != nil && !d.Owner {
		return nil, failed("what this machine's owner has set up cannot be read (%v): run `external-lb host apply` with it again as root", m.ownErr)
	}
	next := &wanted{items{m.wanted.sums.Apply(d.Change), maps.Clone(m.wanted.parts)}, m.wanted.own}
	for _, key := range d.Change.Delete {
		delete(next.parts, key)
	}
	for _, it := range d.Change.Put { // they make room
		delete(next.parts, it.Key)
	}
	var sum extent
	for _, part := range next.parts {
		sum = sum.plus(extentOf(part))
	}
	for _, it := range d.Change.Put {
		if err := lb.CheckKey(it.Key); err != nil {
			return nil, failed("%v", err)
		}
		part := decoded(it)
		sum = sum.plus(extentOf(part))
		switch {
		case sum.listeners > maxExtent.listeners:
			return nil, failed("the model has more than %d listeners: spread the Services over more Balancers", maxExtent.listeners)
		case sum.endpoints > maxExtent.endpoints:
			return nil, failed("the ports of the model have more than %d pods: spread the Services over more Balancers", maxExtent.endpoints)
		}
		next.parts[it.Key] = part
	}
	if n := next.sums.Len(); n > lb.MaxItems {
		return nil, failed("the model has %d items, more than %d", n, lb.MaxItems)
	}
	if size := m.size(next.sums, d.Change.Put); size > lb.MaxSetBytes {
		return nil, failed("the model has %d bytes, more than %d", size, lb.MaxSetBytes)
	}
	if digest := next.sums.Digest(); digest != d.Want {
		return nil, &Error{Code: CodeBaseMismatch, Message: "the change makes the model " + digest.Short() + ", not " + d.Want.Short() + " as announced"}
	}
	if d.Owner {
		next.own = next.only(d.Keep)
	}
	return next, nil
}

// extentOf a part, also of one of which only a part is known.
func extentOf(part any) (e extent) {
	if err, ok := part.(error); ok {
		if unknown, ok := errors.AsType[*lb.UnknownError](err); ok {
			part = unknown.Known
		}
	}
	if s, ok := part.(*lb.Service); ok {
		e = extent{len(s.Frontends), s.Endpoints()}
	}
	return e
}

// size of a model in bytes, some of whose Items come with a delivery.
func (m *model) size(wanted lb.Manifest, fresh []lb.Item) (total int) {
	incoming := make(map[lb.Sum]int, len(fresh))
	for _, it := range fresh {
		incoming[it.Sum] = len(it.Data)
	}
	for _, sum := range wanted.All() {
		total += max(m.sizes[sum], incoming[sum])
	}
	return total
}

// writeItems writes those that are not there yet. All are on the disk when it returns.
func (m *model) writeItems(items []lb.Item) (err error) {
	defer func() { m.cleaned = m.cleaned && err == nil }() // a part of one may be there
	fresh := 0
	for _, it := range items {
		if _, there := m.sizes[it.Sum]; there {
			continue
		}
		fresh++
		if err := m.write(itemPath(it.Sum), it.Data, privateMode, fresh <= syncEach); err != nil {
			return err
		}
		m.sizes[it.Sum] = len(it.Data)
	}
	if fresh == 0 {
		return nil
	}
	if fresh > syncEach {
		return m.syncAll()
	}
	return m.syncDir(itemsDir)
}

func (m *model) writeList(name string, wanted lb.Manifest) error {
	var out bytes.Buffer
	sums := wanted.Sums()
	for _, key := range slices.Sorted(maps.Keys(sums)) {
		sum := sums[key]
		fmt.Fprintf(&out, "%x %s\n", sum[:], key)
	}
	return m.replace(name, out.Bytes(), privateMode)
}

// clean removes the Items that are neither wanted, nor the owner's, nor live.
func (m *model) clean(live lb.Manifest) error {
	needed := make(map[lb.Sum]bool, m.wanted.sums.Len())
	for _, manifest := range []lb.Manifest{live, m.wanted.sums, m.wanted.own.sums} {
		for _, sum := range manifest.All() {
			needed[sum] = true
		}
	}
	var gone []lb.Sum
	for sum := range m.sizes {
		if !needed[sum] {
			gone = append(gone, sum)
			delete(m.sizes, sum)
		}
	}
	if m.cleaned {
		return m.removeItems(gone)
	}
	entries, err := fs.ReadDir(m.root.FS(), itemsDir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if sum, err := parseSum(e.Name()); err == nil && needed[sum] && itemPath(sum) == itemsDir+"/"+e.Name() {
			continue
		}
		errs = append(errs, m.root.RemoveAll(itemsDir+"/"+e.Name()))
	}
	err = errors.Join(errs...)
	m.cleaned = err == nil
	return err
}

// removeItems that are on the disk. What is left of them after an error, the next look finds.
func (m *model) removeItems(gone []lb.Sum) error {
	var errs []error
	for _, sum := range gone {
		errs = append(errs, m.root.RemoveAll(itemPath(sum)))
	}
	err := errors.Join(errs...)
	m.cleaned = err == nil
	return err
}
