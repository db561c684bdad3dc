package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

func TestJudge(t *testing.T) {
	const engine = v1alpha1.EngineHAProxy
	type test struct {
		name string
		o    Outcome
	}
	for name, c := range map[string]struct {
		row   string
		tests []test
		want  Outcome
	}{
		"nothing ran":                   {"S10", nil, NotRun},
		"passed":                        {"S10", []test{{"TestS10_A", Passed}, {"TestS10_B/part", Passed}}, Passed},
		"a part alone":                  {"S10", []test{{"TestS10_A/part", Passed}}, NotRun},
		"one of two failed":             {"S10", []test{{"TestS10_A", Passed}, {"TestS10_B", Failed}}, Failed},
		"skipped without a reason":      {"S10", []test{{"TestS10_A", Passed}, {"TestS10_B", Skipped}}, Failed},
		"a part skipped":                {"S10", []test{{"TestS10_A", Passed}, {"TestS10_A/udp", Skipped}}, Failed},
		"not applicable":                {"S16", []test{{"TestS16_A", Skipped}}, NotApplicable},
		"not applicable, not there":     {"S16", nil, NotApplicable},
		"not applicable, yet it passed": {"S16", []test{{"TestS16_A", Passed}}, Failed},
		"without a part":                {"S11", []test{{"TestS11_A", Passed}, {"TestS11_B", Skipped}}, Passed},
		"the part alone, skipped":       {"S11", []test{{"TestS11_B", Skipped}}, NotRun},
		"the part passed, too":          {"S11", []test{{"TestS11_A", Passed}}, Failed},
	} {
		t.Run(name, func(t *testing.T) {
			r := NewRecord(engine)
			for _, test := range c.tests {
				r.Add(test.name, test.o, time.Second)
			}
			for _, got := range r.Results() {
				if got.Number == c.row && got.Outcome != c.want {
					t.Errorf("%s (%s), want %s", got.Outcome, got.Why, c.want)
				}
			}
		})
	}
}

// The table has the rows of the documentation, in its order.
func TestRowsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/semantics.md")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, m := range regexp.MustCompile(`(?m)^(?:- \*\*|\| )([SE]\d\d)(?:\*\*| \|)`).FindAllSubmatch(page, -1) {
		want = append(want, string(m[1]))
	}
	for _, row := range Rows {
		got = append(got, row.Number)
	}
	if !slices.Equal(got, want) {
		t.Errorf("rows %v, and documented %v", got, want)
	}
}

// Each row has a test that bears its number.
func TestRowsAreTested(t *testing.T) {
	files, err := filepath.Glob("../e2e/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(text)
	}
	for _, row := range Rows {
		if !strings.Contains(tests.String(), "\nfunc Test"+row.Number+"_") {
			t.Errorf("no test is called Test%s_…", row.Number)
		}
	}
	for _, m := range regexp.MustCompile(`\nfunc (Test[SE]\d\d\w*)`).FindAllStringSubmatch(tests.String(), -1) {
		if Of(m[1]) == nil {
			t.Errorf("%s bears the number of no row", m[1])
		}
	}
}

// Each engine is one that there is, and a row is excepted or kept in part, not both.
func TestTable(t *testing.T) {
	for _, row := range Rows {
		for _, reasons := range []map[v1alpha1.Engine]string{row.Except, row.But} {
			for e := range reasons {
				if !Known(e) {
					t.Errorf("%s: no engine is called %q", row.Number, e)
				}
			}
		}
		for e := range row.Except {
			if row.But[e] != "" {
				t.Errorf("%s: both for %s", row.Number, e)
			}
		}
		if Of(fmt.Sprintf("Test%s_Name/part", row.Number)) == nil {
			t.Errorf("%s cannot be a test's", row.Number)
		}
	}
}

// Beside an engine that carries no datagrams, the kernel does: the rows about them hold, and
// the others are as they are for that engine.
func TestDatagramsBesideAnEngine(t *testing.T) {
	const both = v1alpha1.EngineHAProxy + beside
	if got := strings.Join(Datagrams(), " "); got != "S16 S36 E02 E10 E11 E19" {
		t.Errorf("rows about datagrams: %s", got)
	}
	for i := range Rows {
		r := &Rows[i]
		want := r.Except[v1alpha1.EngineHAProxy]
		if slices.Contains(Datagrams(), r.Number) {
			want = ""
		} else if r.Number == "S13" {
			want = everything
		}
		if r.Excepts(both) != want || r.Lacks(both) != r.But[v1alpha1.EngineHAProxy] {
			t.Errorf("%s: %q, %q", r.Number, r.Excepts(both), r.Lacks(both))
		}
		if r.Excepts(v1alpha1.EngineNginx) != r.Except[v1alpha1.EngineNginx] {
			t.Errorf("%s: %q for nginx alone", r.Number, r.Excepts(v1alpha1.EngineNginx))
		}
	}
	few := NewRecord(both, "S16")
	few.Add("TestS16_TCPAndUDPOnOnePort", Passed, 0)
	if results := few.Results(); len(results) != 1 || !results[0].Conforms() {
		t.Errorf("%+v", results)
	}
}

// The page has them in a column of their own, and a cloud, too.
func TestPageHasAColumnForEach(t *testing.T) {
	page := regexp.MustCompile(` \(\d+\)`).ReplaceAllString(Page(), "") // without the numbers of notes, which change with other rows
	for _, want := range []string{
		"| row | what | nginx | haproxy | lvs | haproxy+lvs | octavia |",
		"| S13 | protocols that the engine cannot carry | passed | passed | not applicable | not applicable | passed |",
		"| S16 | TCP and UDP on one port | passed | not applicable | passed | passed | passed |",
		"| S23 | which nodes may be backends | passed | passed | passed | as haproxy | passed |",
	} {
		if !strings.Contains(page, "\n"+want+"\n") {
			t.Errorf("the page lacks %q", want)
		}
	}
}
