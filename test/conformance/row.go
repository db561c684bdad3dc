package conformance

import (
	"regexp"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/engine/engines"
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

// beside stands behind the name of an engine beside which the kernel carries datagrams.
const beside = "+lvs"

// Excepts says why the row means nothing for an engine; "" if it means something.
func (r *Row) Excepts(e v1alpha1.Engine) string {
	main, with := strings.CutSuffix(string(e), beside)
	if with && (r.datagrams() || r.Except[v1alpha1.EngineLVS] != "") {
		return r.Except[v1alpha1.EngineLVS]
	}
	return r.Except[v1alpha1.Engine(main)]
}

// Lacks says what of the row an engine does not keep; "" if it keeps all.
func (r *Row) Lacks(e v1alpha1.Engine) string {
	return r.But[v1alpha1.Engine(strings.TrimSuffix(string(e), beside))]
}

// Known reports whether the rows can be run on an engine, or on what stands for one.
func Known(e v1alpha1.Engine) bool {
	return e == Octavia || engines.Table.Find(strings.TrimSuffix(string(e), beside)) != nil
}

// datagrams: the row is about them.
func (r *Row) datagrams() bool { return r.Except[v1alpha1.EngineHAProxy] == noUDP }

// Datagrams are the numbers of the rows about them.
func Datagrams() (numbers []string) {
	for _, r := range Rows {
		if r.datagrams() {
			numbers = append(numbers, r.Number)
		}
	}
	return numbers
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
