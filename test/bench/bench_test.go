package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/test/bench/report"
	"github.com/external-lb/external-lb/test/lab"
)

// Small clusters are measured as large ones are, so that whoever wants figures gets some.
func TestBench_Measures(t *testing.T) {
	t.Chdir("../..") // the lab applies config/
	binary, err := lab.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bench.json")
	o, err := parse([]string{"-suites", "life,one,memory", "-sizes", "3x2", "-runs", "1", "-binary", binary, "-json", file})
	if err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	measured, err := report.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	for suite, wanted := range map[string]map[string][]report.Metric{
		"life": {
			"created":                      {report.P50, report.Floor, report.Ratio, report.ControllerCPU, report.AgentCPU, report.Reloads},
			"created, changed and deleted": {report.Writes, report.Events, report.ControllerCPU},
		},
		"one":    {"a Service more": {report.Total, report.Ratio, report.Writes}, "a node less": {report.Total, report.Ratio}},
		"memory": {"all is on record, and planned": {report.ControllerPeak, report.ControllerAfter}},
	} {
		of := measured.Of(suite)
		if len(of) != 1 || of[0].Engine != "nginx" || of[0].Environment.Versions["nginx"] == "" {
			t.Fatalf("%s: %+v", suite, of)
		}
		for what, metrics := range wanted {
			lines := report.Lines(of, what)
			if len(lines) != 1 {
				t.Errorf("%s: %q is there %d times", suite, what, len(lines))
				continue
			}
			for _, m := range metrics {
				if lines[0].Figures[m].Median <= 0 {
					t.Errorf("%s, %s: no %s in %+v", suite, what, m, lines[0].Figures)
				}
			}
		}
	}
}

func TestEverySuiteIsMeasured(t *testing.T) {
	for _, name := range names() {
		if measures[name] == nil {
			t.Errorf("nobody measures %s", name)
		}
	}
	if len(measures) != len(report.Suites) {
		t.Errorf("%d of %d suites are known", len(report.Suites), len(measures))
	}
}

func TestParse_SaysWhatIsWrong(t *testing.T) {
	for args, want := range map[string]string{
		"-engine apache":                 `engine "apache"`,
		"-suites live":                   `suite "live"`,
		"-engine metallb -suites memory": "metallb has no suite memory, only life",
		"-sizes 100,x":                   `size "x"`,
		"-sizes 0":                       `size "0"`,
		"-runs 0":                        "at least one run",
		"now":                            "no arguments",
	} {
		if _, err := parse(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", args, err, want)
		}
	}
}

func TestSizes_FollowTheOptions(t *testing.T) {
	s := scale{[]size{{1, 1}}, []size{{2, 1}}}
	for args, want := range map[string][]size{
		"":                     {{1, 1}},
		"-full":                {{1, 1}, {2, 1}},
		"-full -sizes 7,30x20": {{7, 1}, {30, 20}},
	} {
		o, err := parse(strings.Fields(args))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.of(o); !slices.Equal(got, want) {
			t.Errorf("%q: got %v, want %v", args, got, want)
		}
	}
}

func TestVersions_AreReadFromWhatProgramsSay(t *testing.T) {
	for said, want := range map[string]string{
		"nginx version: nginx/1.22.1\n": "1.22.1",
		"HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\nStatus: long-": "2.6.12-1+deb12u4",
		"Keepalived v2.2.7 (01/16,2022)\n\nCopyright(C) 2001-2022":                          "2.2.7",
	} {
		if got := firstVersion(said); got != want {
			t.Errorf("%q: got %q", said, got)
		}
	}
}

func TestSum_IsOfTheSeriesWithTheLabels(t *testing.T) {
	families, err := parseMetrics(strings.NewReader(`# TYPE requests counter
requests{group="",resource="services",verb="PATCH"} 3
requests{group="",resource="services",verb="PUT"} 4
requests{group="external-lb.dev",resource="balancers",verb="PATCH"} 5
`))
	if err != nil {
		t.Fatal(err)
	}
	if got := sum(families["requests"], map[string]string{"verb": "PATCH"}); got != 8 {
		t.Errorf("PATCH: %v", got)
	}
	if got := sum(families["requests"], map[string]string{"resource": "services", "verb": "PUT"}); got != 4 {
		t.Errorf("PUT of services: %v", got)
	}
	if got := sum(families["other"], nil); got != 0 {
		t.Errorf("of what is not there: %v", got)
	}
}

// What would run in the cluster, and webhooks that nobody answers, are left out.
func TestKindsAndRights_AreAllThatIsTaken(t *testing.T) {
	const manifests = "kind: Namespace\nmetadata: {name: a}\n---\nkind: Deployment\n---\nkind: ClusterRole\n---\nkind: ValidatingWebhookConfiguration\n"
	got, err := kindsAndRights([]byte(manifests))
	if err != nil {
		t.Fatal(err)
	}
	if want := "---\nkind: Namespace\nmetadata: {name: a}\n\n---\nkind: ClusterRole\n\n"; got != want {
		t.Errorf("got %q", got)
	}
}
