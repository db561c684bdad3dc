package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/test/bench/report"
)

func figures(metric report.Metric, median, least, most float64) map[report.Metric]report.Spread {
	return map[report.Metric]report.Spread{metric: {Median: median, Min: least, Max: most}}
}

// measured are two engines at two sizes.
func measured() (r report.Report) {
	r.Put(
		report.Suite{Name: "life", Engine: "nginx", Runs: 3, Environment: report.Environment{Commit: "abc123", Loaded: true}, Rows: []report.Row{
			{What: "created and deleted", Services: 100, Nodes: 1, Figures: figures(report.ControllerCPU, 8, 7, 9)},
			{What: "created and deleted", Services: 1000, Nodes: 1, Figures: figures(report.ControllerCPU, 9, 9, 9)},
		}},
		report.Suite{Name: "life", Engine: "metallb", Runs: 3, Environment: report.Environment{Commit: "def456"}, Rows: []report.Row{
			{What: "created and deleted", Services: 1000, Nodes: 1, Figures: figures(report.ControllerCPU, 10, 10, 10)},
		}},
		report.Suite{Name: "one", Engine: "lvs", Rows: []report.Row{
			{What: "a Service more", Services: 200, Nodes: 10, Figures: map[report.Metric]report.Spread{
				report.Total: {Median: 2, Min: 2, Max: 2}, report.Floor: {Median: 1, Min: 1, Max: 1}}},
		}, LeftOut: []string{"5000 Services x 100 nodes: too large"}},
	)
	return r
}

func TestPerformance_IsWhatTheFileSays(t *testing.T) {
	page := performance(measured())
	for _, want := range []string{
		"| life | nginx | 3 |", "`abc123`", "loaded |", "**Loaded**",
		"| 100 | 1 | nginx | 8 (7–9) |", "| 1,000 | 1 | nginx | 9 |\n| 1,000 | 1 | MetalLB | 10 |",
		"![CPU of the controller for a Service, created and deleted](../images/performance-cpu.svg)",
		"Left out on this machine, 5000 Services x 100 nodes: too large.",
		"## The memory of the controller", "*This was not measured.*",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	if strings.Contains(page, "performance-memory.svg") {
		t.Error("the page shows a picture of what was not measured")
	}
}

func TestPerformance_SaysThatNothingWasMeasured(t *testing.T) {
	page := performance(report.Report{})
	if n := strings.Count(page, "*This was not measured.*"); n != len(report.Suites) || !strings.Contains(page, "Nothing has been measured yet.") {
		t.Errorf("%d suites were not measured:\n%s", n, page)
	}
}

// The pictures are XML, and everything in them is within their edges.
func TestDrawings_AreWhole(t *testing.T) {
	pictures := drawings(measured())
	if len(pictures) != 2 {
		t.Errorf("%d pictures", len(pictures))
	}
	for _, p := range pictures {
		for decoder := xml.NewDecoder(strings.NewReader(string(p.svg()))); ; {
			if _, err := decoder.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", p.file, err)
			}
		}
		if strings.Contains(string(p.svg()), "NaN") || strings.Contains(string(p.svg()), "%!") {
			t.Errorf("%s:\n%s", p.file, p.svg())
		}
	}
	if names := pictures[1].series; len(names) != 2 || names[0].name != "LVS, 200 Services" || !names[1].dashed {
		t.Errorf("series %+v", names)
	}
}

func TestAxis_HasTicksAroundAllValues(t *testing.T) {
	for _, values := range [][]float64{{100, 10_000}, {3}, {0.004, 0.5}, {1, 1}, {999.9, 1000}, {0.02, 70_000}} {
		a := axisOf(0, 100, values...)
		ticks := a.ticks()
		for _, v := range values {
			if at := a.at(v); at < -0.1 || at > 100.1 {
				t.Errorf("%v of %v is at %v", v, values, at)
			}
		}
		if len(ticks) < 2 || len(ticks) > 12 {
			t.Errorf("%v has ticks %v", values, ticks)
		}
	}
}

// A picture of what is measured no longer goes.
func TestDraw_LeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "performance-old.svg")
	if err := os.WriteFile(old, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := draw(dir, drawings(measured())); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 2 {
		t.Errorf("%q, %v", left, err)
	}
}
