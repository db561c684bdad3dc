package chaos

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// table is what a run has done, and how long each kind of step took, with what was
// looked at after it.
type table struct {
	rows map[kind]*row
	// Of the manager, in any minute.
	events, writes int
	attempts       int // to write one Service, in any minute, that somebody else writes or forbids
	restarts       int // of a manager that had ended by itself
	answers        int // that were looked at
}

type row struct {
	count          int
	total, slowest time.Duration
}

func newTable() *table { return &table{rows: map[kind]*row{}} }

func (t *table) add(k kind, took time.Duration) {
	r := t.rows[k]
	if r == nil {
		r = &row{}
		t.rows[k] = r
	}
	r.count++
	r.total += took
	r.slowest = max(r.slowest, took)
}

func (t *table) print(to io.Writer) {
	out := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintf(out, "step\tcount\tmean\tslowest\n")
	for _, k := range sorted(t.rows) {
		r := t.rows[k]
		mean := r.total / time.Duration(r.count)
		fmt.Fprintf(out, "%s\t%d\t%s\t%s\n", k, r.count, mean.Round(10*time.Millisecond), r.slowest.Round(10*time.Millisecond))
	}
	fmt.Fprintf(out, "\nanswers\t%d\nmost events in a minute\t%d\nmost other writes in a minute\t%d\nmost of one Service that is fought for or denied\t%d\nmanagers started again\t%d\n",
		t.answers, t.events, t.writes, t.attempts, t.restarts)
	_ = out.Flush() // to a terminal
}
