package deliver

import "github.com/external-lb/external-lb/internal/lb"

// listeners are those of a set, with the key of the Service of each. They are found anew
// when the set is another one.
type listeners struct {
	digest lb.Digest
	keys   map[lb.Listener]lb.Key
}

func (l *listeners) of(set *lb.Set) map[lb.Listener]lb.Key {
	if set == nil || l.keys != nil && l.digest == set.Digest() {
		return l.keys
	}
	l.digest, l.keys = set.Digest(), map[lb.Listener]lb.Key{}
	for it := range set.All() {
		part, err := lb.Decode(it)
		if s, ok := part.(*lb.Service); err == nil && ok {
			for _, f := range s.Frontends {
				l.keys[f.Listener] = it.Key
			}
		}
	}
	return l.keys
}
