package conformance

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// Outcome is what became of a test or a row.
type Outcome string

// The outcomes.
const (
	NotRun        Outcome = "not run"
	Passed        Outcome = "passed"
	Failed        Outcome = "failed"
	Skipped       Outcome = "skipped" // of a test alone
	NotApplicable Outcome = "not applicable"
)

// Record is what became of the tests of one engine. It is for concurrent use.
type Record struct {
	engine v1alpha1.Engine
	of     []Row
	mu     sync.Mutex
	rows   map[string]*tally
}

// tally is what became of the tests of one row.
type tally struct {
	passed          int
	failed, skipped []string // tests
	took            time.Duration
}

// NewRecord begins without tests. It is of some rows, by their numbers, or of all.
func NewRecord(engine v1alpha1.Engine, numbers ...string) *Record {
	of := Rows
	if len(numbers) > 0 {
		of = nil
		for _, n := range numbers {
			of = append(of, *find(n))
		}
	}
	return &Record{engine: engine, of: of, rows: map[string]*tally{}}
}

// Add says what became of a test, or of a part of one. Tests that prove no row are
// not counted. That a part failed or passed says its whole.
func (r *Record) Add(test string, o Outcome, took time.Duration) {
	row := Of(test)
	isPart := strings.Contains(test, "/")
	if row == nil || isPart && o != Skipped {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.rows[row.Number]
	if t == nil {
		t = &tally{}
		r.rows[row.Number] = t
	}
	switch o {
	case Passed:
		t.passed++
	case Failed:
		t.failed = append(t.failed, test)
	case Skipped:
		t.skipped = append(t.skipped, test)
	}
	if !isPart {
		t.took += took
	}
}

// Result is what became of a row.
type Result struct {
	Row
	Outcome Outcome
	Why     string
	Took    time.Duration
}

// Conforms reports whether the row is as the table says.
func (r Result) Conforms() bool { return r.Outcome == Passed || r.Outcome == NotApplicable }

// Results are those of all rows, in their order.
func (r *Record) Results() []Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Result, len(r.of))
	for i, row := range r.of {
		out[i] = Result{Row: row}
		t := r.rows[row.Number]
		if t == nil {
			t = &tally{}
		}
		out[i].Outcome, out[i].Why = judge(row, r.engine, t)
		out[i].Took = t.took
	}
	return out
}

func judge(row Row, engine v1alpha1.Engine, t *tally) (o Outcome, why string) {
	except, but := row.Excepts(engine), row.Lacks(engine)
	switch {
	case len(t.failed) > 0:
		return Failed, strings.Join(t.failed, ", ")
	case len(t.skipped) > 0 && except == "" && but == "":
		return Failed, fmt.Sprintf("%s skipped, and the table has no reason for it", strings.Join(t.skipped, ", "))
	case except != "" && t.passed > 0:
		return Failed, "a test passed, though the table says: " + except
	case except != "":
		return NotApplicable, except
	case t.passed == 0:
		return NotRun, "no test of it has run"
	case but != "" && len(t.skipped) == 0:
		return Failed, "no test was skipped, though the table says: without " + but
	case but != "":
		return Passed, "without " + but
	}
	return Passed, ""
}

// Print the table, and count the rows that are not as they should be.
func Print(out io.Writer, results []Result) (wrong int) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, r := range results {
		if !r.Conforms() {
			wrong++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.Number, r.Title, r.Outcome, r.Took.Round(100*time.Millisecond), r.Why)
	}
	w.Flush()
	return wrong
}
