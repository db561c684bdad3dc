package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/test/bench/report"
)

// picture is a plot of a suite's figures, and its file.
type picture struct {
	suite, file string
	plot
}

// drawings are what can be drawn of a report. One without figures is not there.
func drawings(r report.Report) (out []picture) {
	const short = "created and deleted"
	for _, p := range []picture{
		{"life", "performance-cpu.svg", plot{"CPU of the controller for a Service, created and deleted", "Services", "ms",
			against(r.Of("life"), short, report.ControllerCPU, services, nil)}},
		{"life", "performance-wait.svg", plot{"What half of the Services wait for an address at most", "Services, created at once", "s",
			against(r.Of("life"), "created", report.P50, services, nil)}},
		{"one", "performance-nodes.svg", plot{"One Service more among 1,000", "nodes behind each Service", "s",
			overNodes(r.Of("one"), "a Service more", 1000)}},
		{"memory", "performance-memory.svg", plot{"Memory of the controller, at its peak", "Services", "MB",
			against(r.Of("memory"), "all is on record, and planned", report.ControllerPeak, services, nil)}},
	} {
		if len(p.series) > 0 {
			out = append(out, p)
		}
	}
	return out
}

func services(r report.Row) int { return r.Services }
func nodes(r report.Row) int    { return r.Nodes }

// against draws a figure of something over a size, a series for each engine.
func against(suites []report.Suite, what string, metric report.Metric, size func(report.Row) int, only func(report.Row) bool) []series {
	var out []series
	for _, l := range report.Lines(suites, what) {
		value, there := l.Figures[metric]
		if !there || value.Min <= 0 || only != nil && !only(l.Row) {
			continue
		}
		at := slices.IndexFunc(out, func(s series) bool { return s.name == l.Engine })
		if at < 0 {
			at = len(out)
			out = append(out, series{name: l.Engine, style: report.Place(l.Engine)})
		}
		out[at].points = append(out[at].points, point{float64(size(l.Row)), value.Median, value.Min, value.Max})
	}
	slices.SortFunc(out, func(a, b series) int { return cmp.Compare(a.style, b.style) })
	return out
}

// overNodes draws times over nodes, and their floors, at so many Services or at as many as an engine was measured with.
func overNodes(suites []report.Suite, what string, usual int) (out []series) {
	for _, s := range suites {
		n := usual
		if len(s.Rows) > 0 && !slices.ContainsFunc(s.Rows, func(r report.Row) bool { return r.Services == usual }) {
			n = s.Rows[0].Services
		}
		at := func(r report.Row) bool { return r.Services == n }
		one := []report.Suite{s}
		title := report.Title(s.Engine)
		if n != usual {
			title += fmt.Sprintf(", %d Services", n)
		}
		for _, drawn := range against(one, what, report.Total, nodes, at) {
			drawn.name = title
			out = append(out, drawn)
		}
		for _, drawn := range against(one, what, report.Floor, nodes, at) {
			drawn.name, drawn.dashed = "its floor", true
			out = append(out, drawn)
		}
	}
	return out
}

// performance is the page of what was measured.
func performance(r report.Report) string {
	var b strings.Builder
	b.WriteString("# What it costs\n\nMeasured on the [test cluster](../../test/README.md): a real API server, real balancers,\nreal traffic, all on " +
		"one machine. A figure is the median of several runs, with the least and the most in parentheses where they differ.\n" +
		"This page and its pictures are made from [performance.json](performance.json). Nothing is written by hand.\n\n")
	where(&b, r)
	pictures := drawings(r)
	for _, s := range report.Suites {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", s.Title, s.Means)
		of := r.Of(s.Name)
		if len(of) == 0 {
			b.WriteString("\n*This was not measured.*\n")
			continue
		}
		for _, p := range pictures {
			if p.suite == s.Name {
				fmt.Fprintf(&b, "\n![%s](../images/%s)\n", p.title, p.file)
			}
		}
		tables(&b, of)
	}
	b.WriteString("\n## What the columns say\n\n| column | |\n|---|---|\n")
	for _, m := range report.Metrics {
		fmt.Fprintf(&b, "| %s | %s |\n", m.Head(), m.Means)
	}
	b.WriteString("\nCPU and memory are of the process alone: neither the API server's nor the clients'. Times are not those of an idle\n" +
		"machine: API server, controller, daemons and clients share its CPUs.\n")
	b.WriteString(repeat)
	return b.String()
}

const repeat = `
## Measure it yourself

` + "```sh" + `
make bench ENGINE=haproxy         # one engine, usual sizes
make bench-metallb                # MetalLB's controller, and ours beside it
make bench-all                    # everything, into docs/reference/performance.json: hours
make docs                         # this page, from there
` + "```" + `

` + "`go run ./test/bench -help`" + ` lists the suites, and how to choose suites, sizes and runs. A suite that is measured again
replaces its figures in the file, and no others.
`

// where says on which machine everything was measured, and when.
func where(b *strings.Builder, r report.Report) {
	if len(r.Suites) == 0 {
		b.WriteString("Nothing has been measured yet.\n")
		return
	}
	b.WriteString("| suite | engine | runs | measured | commit | machine | versions | |\n|---|---|---|---|---|---|---|---|\n")
	loaded := false
	for _, about := range report.Suites {
		for _, s := range r.Of(about.Name) {
			e, note := s.Environment, ""
			if loaded = loaded || e.Loaded; e.Loaded {
				note = "loaded"
			}
			versions := []string{e.Go}
			for _, name := range slices.Sorted(maps.Keys(e.Versions)) {
				versions = append(versions, name+" "+e.Versions[name])
			}
			fmt.Fprintf(b, "| %s | %s | %d | %s | `%s` | %s | %s | %s |\n", s.Name, report.Title(s.Engine), s.Runs, e.Date, e.Commit,
				e.Machine(), strings.Join(versions, ", "), note)
		}
	}
	if loaded {
		b.WriteString("\n**Loaded**: others worked on the machine at the same time. Trust ratios and counts of such rows, not their times.\n")
	}
}

// tables of a suite, one for each thing that it measured, with all engines side by side.
func tables(b *strings.Builder, of []report.Suite) {
	for _, what := range report.Whats(of) {
		fmt.Fprintf(b, "\n**%s%s**\n\n", strings.ToUpper(what[:1]), what[1:])
		for i, row := range report.Cells(report.Lines(of, what)) {
			fmt.Fprintf(b, "| %s |\n", strings.Join(row, " | "))
			if i == 0 {
				fmt.Fprintf(b, "|%s\n", strings.Repeat("---|", len(row)))
			}
		}
	}
	for _, s := range of {
		if s.Floor != "" {
			fmt.Fprintf(b, "\nThe floor of %s is %s.\n", report.Title(s.Engine), s.Floor)
		}
	}
	for _, s := range of {
		for _, left := range s.LeftOut {
			fmt.Fprintf(b, "\nLeft out on this machine, %s\n", left+".")
		}
	}
}
