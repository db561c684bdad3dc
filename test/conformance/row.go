package conformance

import (
	"regexp"
	"slices"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// Row is one expectation.
type Row struct {
	Number string // S01 to S36, E01 to E21
	Title  string
	// Except has the engines for which the row means nothing, and why.
	Except map[v1alpha1.Engine]string
	// But has the engines that keep only a part of the row, and what is missing of it:
	// the tests of that part are skipped.
	But map[v1alpha1.Engine]string
}

// numbered finds the number in the name of a test, as in TestS10_DualStack.
var numbered = regexp.MustCompile(`^Test([SE]\d\d)_`)

// Of finds the row that a test proves, or nil.
func Of(test string) *Row {
	m := numbered.FindStringSubmatch(test)
	if m == nil {
		return nil
	}
	return find(m[1])
}

func find(number string) *Row {
	i := slices.IndexFunc(Rows, func(r Row) bool { return r.Number == number })
	if i < 0 {
		return nil
	}
	return &Rows[i]
}
