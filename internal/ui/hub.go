package ui

import (
	"bytes"
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"strings"
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

const (
	clusterKey = "cluster"
	silenceKey = "silence" // why there is no traffic
)

// part of what is shown, which one tells.
type part int

const (
	ofObjects part = iota
	ofTraffic
	ofCluster
)

// partOf a key.
func partOf(key string) part {
	switch kind, _, _ := strings.Cut(key, "/"); kind {
	case clusterKey:
		return ofCluster
	case silenceKey, "traffic", "host":
		return ofTraffic
	}
	return ofObjects
}

// publish shows these items of a part, and of others what was shown before.
func (h *hub) publish(of part, items []page.Item) {
	h.change(func(next map[string]*page.Item) {
		for key := range next {
			if partOf(key) == of {
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
	h.publish(ofCluster, []page.Item{{Key: clusterKey, Data: encode(c)}})
}

// silent says why there is no traffic to be shown.
func (h *hub) silent(why string) {
	h.publish(ofTraffic, []page.Item{{Key: silenceKey, Data: encode(why)}})
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // texts and plain fields
	}
	return data
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
// the order of their keys. A message is made when the one before was taken.
func difference(has, want map[string]*page.Item, reset bool) iter.Seq[message] {
	return func(yield func(message) bool) {
		m, size := message{Reset: reset, Set: map[string]json.RawMessage{}}, 0
		for _, key := range slices.Sorted(maps.Keys(want)) {
			if has[key] == want[key] {
				continue
			}
			if size > maxMessage {
				if m.More = true; !yield(m) {
					return
				}
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
			yield(m)
		}
	}
}
