package deliver

import "github.com/external-lb/external-lb/internal/lb"

// listeners are those of a set, with the key of the Service of each. When the set is another
// one, what differs is found anew.
type listeners struct {
	set  *lb.Set
	keys map[lb.Listener]lb.Key
}

func (l *listeners) of(set *lb.Set) map[lb.Listener]lb.Key {
	if set == nil || l.set == set {
		return l.keys
	}
	if l.set == nil {
		l.set, l.keys = lb.NewSet(), map[lb.Listener]lb.Key{}
	}
	change := lb.Diff(l.set.Manifest(), set)
	for _, key := range change.Delete {
		l.forget(key)
	}
	for _, it := range change.Put {
		l.forget(it.Key)
	}
	for _, it := range change.Put {
		for _, f := range frontends(it) {
			l.keys[f.Listener] = it.Key
		}
	}
	l.set = set
	return l.keys
}

// forget those that an item of the last set had.
func (l *listeners) forget(key lb.Key) {
	it, there := l.set.Get(key)
	if !there {
		return
	}
	for _, f := range frontends(it) {
		if l.keys[f.Listener] == key {
			delete(l.keys, f.Listener)
		}
	}
}

// frontends of an item; none if it is no Service.
func frontends(it lb.Item) []lb.Frontend {
	part, err := lb.Decode(it)
	if s, ok := part.(*lb.Service); err == nil && ok {
		return s.Frontends
	}
	return nil
}
