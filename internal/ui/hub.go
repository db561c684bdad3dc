package ui

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"sync"

	"github.com/external-lb/external-lb/internal/ui/page"
)

// hub has what is shown now. An item is the same pointer as long as it says the same, so
// what a browser lacks is found without a history, however far it is behind.
type hub struct {
	mu      sync.Mutex
	items   map[string]*page.Item
	changed chan struct{} // closed when there is something new
}

func newHub() *hub {
	return &hub{items: map[string]*page.Item{}, changed: make(chan struct{})}
}

// connection is the item that tells how the cluster can be read.
type connection struct {
	Server  string `json:"server"`
	Problem string `json:"problem,omitempty"` // why what is shown may be old
	Loaded  bool   `json:"loaded"`            // false: nothing was read yet
}

const clusterKey = "cluster"

// publish shows these items, and what is said of the cluster as before.
func (h *hub) publish(items []page.Item) {
	h.change(func(next map[string]*page.Item) {
		for key := range next {
			if key != clusterKey {
				delete(next, key)
			}
		}
		for _, i := range items {
			next[i.Key] = &i
		}
	})
}

// tell says how the connection to the cluster is.
func (h *hub) tell(c connection) {
	data, err := json.Marshal(c)
	if err != nil {
		panic(err) // three plain fields
	}
	h.change(func(next map[string]*page.Item) { next[clusterKey] = &page.Item{Key: clusterKey, Data: data} })
}

func (h *hub) change(do func(next map[string]*page.Item)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := maps.Clone(h.items)
	do(next)
	same := len(next) == len(h.items)
	for key, i := range next {
		if was := h.items[key]; was != nil && bytes.Equal(was.Data, i.Data) {
			next[key] = was
		} else {
			same = false
		}
	}
	if same {
		return
	}
	h.items = next
	close(h.changed)
	h.changed = make(chan struct{})
}

// now is what is shown, and what tells when it no longer is. Nothing changes the map.
func (h *hub) now() (map[string]*page.Item, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.items, h.changed
}

// message is what a browser is sent at a time.
type message struct {
	Reset bool                       `json:"reset,omitempty"` // it begins with nothing
	More  bool                       `json:"more,omitempty"`  // the next belongs to it
	Set   map[string]json.RawMessage `json:"set,omitempty"`
	Gone  []string                   `json:"gone,omitempty"`
}

// maxMessage is how many bytes of items a message has, but for its last item.
const maxMessage = 128 << 10

// difference is what a browser that has some items needs to have others. Items come in
// the order of their keys.
func difference(has, want map[string]*page.Item, reset bool) (out []message) {
	m, size := message{Reset: reset, Set: map[string]json.RawMessage{}}, 0
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if has[key] == want[key] {
			continue
		}
		if size > maxMessage {
			m.More = true
			out = append(out, m)
			m, size = message{Set: map[string]json.RawMessage{}}, 0
		}
		m.Set[key] = want[key].Data
		size += len(key) + len(want[key].Data)
	}
	for _, key := range slices.Sorted(maps.Keys(has)) {
		if want[key] == nil {
			m.Gone = append(m.Gone, key)
		}
	}
	if m.Reset || len(m.Set) > 0 || len(m.Gone) > 0 {
		out = append(out, m)
	}
	return out
}
