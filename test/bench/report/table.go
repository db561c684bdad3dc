package report

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// engines are the names of engines as people write them, in the order of tables.
var engines = []struct{ name, title string }{{"nginx", "nginx"}, {"haproxy", "HAProxy"}, {"lvs", "LVS"}, {"metallb", "MetalLB"}}

// Title of an engine.
func Title(engine string) string {
	for _, e := range engines {
		if e.name == engine {
			return e.title
		}
	}
	return engine
}

// Place of an engine in the order of tables and colours, by its name or its title.
func Place(engine string) int {
	for i, e := range engines {
		if e.name == engine || e.title == engine {
			return i
		}
	}
	return len(engines)
}

// Line is a row of the table of one thing that was measured: on one engine.
type Line struct {
	Engine string // its title
	Row
}

// Lines of one thing, on all engines side by side. They are by size, and else as the suites are.
func Lines(suites []Suite, what string) (lines []Line) {
	for _, s := range suites {
		for _, r := range s.Rows {
			if r.What == what {
				lines = append(lines, Line{Title(s.Engine), r})
			}
		}
	}
	slices.SortStableFunc(lines, func(a, b Line) int { return cmp.Or(a.Services-b.Services, a.Nodes-b.Nodes) })
	return lines
}

// Whats are the things that suites measured, in the order in which the first that has them did.
func Whats(suites []Suite) (whats []string) {
	for _, s := range suites {
		for _, r := range s.Rows {
			if !slices.Contains(whats, r.What) {
				whats = append(whats, r.What)
			}
		}
	}
	return whats
}

// Cells of the table of one thing: its head, then a row for each line.
func Cells(lines []Line) (cells [][]string) {
	var rows []Row
	for _, l := range lines {
		rows = append(rows, l.Row)
	}
	columns := Columns(rows)
	head := []string{"Services", "nodes", ""}
	for _, c := range columns {
		head = append(head, c.Head())
	}
	cells = append(cells, head)
	for _, l := range lines {
		row := []string{number(l.Services), number(l.Nodes), l.Engine}
		for _, c := range columns {
			value := "–"
			if s, there := l.Figures[c.Metric]; there {
				value = s.String()
			}
			row = append(row, value)
		}
		cells = append(cells, row)
	}
	return cells
}

// number with commas, as English has it.
func number(n int) string {
	digits := strconv.Itoa(n)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

// Print a suite for a terminal.
func Print(w io.Writer, about string, suites []Suite) error {
	fmt.Fprintf(w, "\n%s\n", strings.ToUpper(about))
	for _, s := range suites {
		e := s.Environment
		state := ""
		if e.Loaded {
			state = ", while others used the machine"
		}
		fmt.Fprintf(w, "%s: %d runs on %s at %s%s; %s, %s%s\n",
			Title(s.Engine), s.Runs, e.Date, e.Commit, state, e.Machine(), e.Go, versions(e.Versions))
		if s.Floor != "" {
			fmt.Fprintf(w, "  floor: %s\n", s.Floor)
		}
		for _, left := range s.LeftOut {
			fmt.Fprintf(w, "  left out: %s\n", left)
		}
	}
	for _, what := range Whats(suites) {
		fmt.Fprintf(w, "\n%s\n", what)
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		for _, row := range Cells(Lines(suites, what)) {
			fmt.Fprintln(table, strings.Join(row, "\t")+"\t")
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func versions(of map[string]string) (text string) {
	for _, name := range slices.Sorted(maps.Keys(of)) {
		text += ", " + name + " " + of[name]
	}
	return text
}
