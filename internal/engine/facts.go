package engine

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// fact is something that a file says and that custom templates cannot change:
// where it listens, to whom, and for which nodes. How traffic is carried is theirs.
type fact struct {
	text  string // "listen 192.0.2.1:80"
	exact bool   // it is not said of anything else either
}

// Facts are those of a file, with how often it says each.
type Facts map[fact]int

// Against says what another file lacks of these facts or says beside them, ""
// if nothing.
func (f Facts) Against(other Facts) string {
	missing, added := []string{}, []string{}
	for _, one := range slices.SortedFunc(maps.Keys(f), compareFacts) {
		if other[one] < f[one] {
			missing = append(missing, one.text)
		}
	}
	for _, one := range slices.SortedFunc(maps.Keys(other), compareFacts) {
		if one.exact && other[one] > f[one] {
			added = append(added, one.text)
		}
	}
	switch {
	case len(missing) > 0:
		return fmt.Sprintf("%q is missing", missing[0])
	case len(added) > 0:
		return fmt.Sprintf("%q is not what the Service asks for", added[0])
	}
	return ""
}

func compareFacts(a, b fact) int { return cmp.Compare(a.text, b.text) }

// Must notes what another file must say, too.
func (f Facts) Must(words ...string) { f[fact{strings.Join(words, " "), false}]++ }

// Exactly notes what another file must say, and not of anything else.
func (f Facts) Exactly(words ...string) { f[fact{strings.Join(words, " "), true}]++ }

var remark = regexp.MustCompile(`(?m)(^|\s)#.*$`)

// WithoutRemarks is a file without what follows a #.
func WithoutRemarks(file []byte) string { return remark.ReplaceAllString(string(file), "") }
