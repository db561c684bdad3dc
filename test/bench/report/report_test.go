package report

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRowsAreMedians(t *testing.T) {
	var s Samples
	for _, seconds := range []float64{3, 1, 2.00004} {
		s.Add("created", 100, 1, map[Metric]float64{Total: seconds})
	}
	s.Add("created", 100, 10, map[Metric]float64{Total: 1, Floor: 4})
	s.Add("created", 100, 10, map[Metric]float64{Total: 2})
	want := []Row{
		{"created", 100, 1, map[Metric]Spread{Total: {2, 1, 3}}},
		{"created", 100, 10, map[Metric]Spread{Total: {1.5, 1, 2}, Floor: {4, 4, 4}}},
	}
	if diff := cmp.Diff(want, s.Rows()); diff != "" {
		t.Error(diff)
	}
}

// A suite that is measured again replaces what was known of it on its engine, and nothing else.
func TestMerge_IsBySuiteAndEngine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bench.json")
	for _, s := range []Suite{{Name: "one", Engine: "nginx", Runs: 1}, {Name: "life", Engine: "nginx", Runs: 2},
		{Name: "life", Engine: "haproxy", Runs: 3}, {Name: "life", Engine: "nginx", Runs: 4}} {
		if err := Merge(path, s); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	var runs []int
	for _, s := range r.Suites {
		runs = append(runs, s.Runs)
	}
	if want := []int{3, 4, 1}; !slices.Equal(runs, want) {
		t.Errorf("runs %v, want %v: %+v", runs, want, r)
	}
	if of := r.Of("life"); len(of) != 2 || of[0].Engine != "nginx" {
		t.Errorf("of life: %+v", of)
	}
}

func TestSpread_SaysWhatRunsDifferIn(t *testing.T) {
	for want, s := range map[string]Spread{
		"2":               {2, 2, 2},
		"0.50":            {0.5, 0.5001, 0.5},
		"12.3 (9.00–150)": {12.34, 8.999, 150.4},
		"0.004":           {0.0042, 0.0042, 0.0042},
	} {
		if got := s.String(); got != want {
			t.Errorf("%+v is %q, want %q", s, got, want)
		}
	}
}

func TestColumns_AreThoseThatSomeRowHas(t *testing.T) {
	rows := []Row{{Figures: map[Metric]Spread{Events: {}}}, {Figures: map[Metric]Spread{Total: {}}}}
	var heads []string
	for _, c := range Columns(rows) {
		heads = append(heads, c.Head())
	}
	if want := []string{"all (s)", "events (each)"}; !slices.Equal(heads, want) {
		t.Errorf("got %q", heads)
	}
}

func TestHere_IsTold(t *testing.T) {
	e, err := Here(t.Context(), map[string]string{"nginx": "1.22.1"}, true)
	if err != nil {
		t.Fatal(err)
	}
	if e.Commit == "" || e.Cores == 0 || e.Memory == 0 || e.Kernel == "" || !e.Loaded {
		t.Errorf("%+v", e)
	}
}
