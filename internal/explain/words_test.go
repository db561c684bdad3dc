package explain

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	troubleshooting = "../../docs/troubleshooting.md"
	limits          = "../../docs/reference/limits.md"
)

// The page quotes others, too: browsers, OpenSSL, and what is not there.
var othersWords = []string{"(no condition, no event)", "unable to get local issuer certificate", "(it does not load)", "certificate signed by unknown authority", "not connected to external-lb"}

// Reasons of conditions that say of nothing that it is wrong.
var noTrouble = []string{"Accepted", "AllNodesUp", "Programmed", "NotStalled", "Pending", "Healthy", "Held", "Supported", "NoConflict", "Valid"}

// literals are the texts of a Go file, those that are put together as one.
func literals(code string) string {
	code = regexp.MustCompile("[\"`]\\s*\\+\\s*[\"`]").ReplaceAllString(code, "")
	return strings.ReplaceAll(code, `\"`, `"`)
}

// words of a text, with … for what is filled in.
func words(text string) []string {
	return strings.Fields(regexp.MustCompile(`%(\[\d+\])?[a-z]|…|\b[A-Z]{3,}\b`).ReplaceAllString(text, " … "))
}

// said reports whether three words in a row of a text are in another one, or all between two
// gaps where there are fewer.
func said(text []string, in string) bool {
	long := false
	for part := range strings.SplitSeq(strings.Join(text, " "), "…") {
		run := strings.Fields(part)
		long = long || len(run) > 1
		for i := 0; len(run) > 1 && i <= max(0, len(run)-3); i++ {
			if strings.Contains(in, strings.TrimRight(strings.Join(run[i:min(i+3, len(run))], " "), ".:;,")) {
				return true
			}
		}
	}
	return !long // nothing to go by
}

// program is all that this program can say.
func program(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range []string{"../../internal", "../../api", "../../controllers", "../../config"} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || strings.HasSuffix(path, "_test.go") || !slices.Contains([]string{".go", ".js", ".html", ".yaml"}, filepath.Ext(path)) {
				return err
			}
			text, err := os.ReadFile(path)
			all.WriteString(literals(string(text)) + "\n")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return strings.Join(words(all.String()), " ")
}

func page(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What a page quotes is what a user sees.
func TestThePagesQuoteWhatIsSaid(t *testing.T) {
	all := program(t)
	for path, least := range map[string]int{troubleshooting: 50, limits: 20} {
		quotes := regexp.MustCompile(`(?:^|[^*\w])\*([^*]+)\*`).FindAllStringSubmatch(page(t, path), -1)
		if len(quotes) < least {
			t.Fatalf("%s: only %d quotes are found", path, len(quotes))
		}
		for _, q := range quotes {
			if quote := strings.Join(strings.Fields(q[1]), " "); !slices.Contains(othersWords, quote) && !said(words(quote), all) {
				t.Errorf("%s: nothing says *%s*", path, quote)
			}
		}
	}
}

// inside are limits that no user meets: of what two programs of ours say to each other, and of what is told.
var inside = []string{"HAProxy says more than %d MiB", "HAProxy has more than %d MiB of statistics: too many to look at", "a certificate and its key have more than %d bytes",
	"it has more than %d bytes", "%s: %w: it has more than %d MiB", "more than %d leave"}

// Each bound that somebody meets is among the limits or in troubleshooting, by its words.
func TestLimitsAreOnAPage(t *testing.T) {
	quoted, found := strings.Join(words(page(t, troubleshooting)+page(t, limits)), " "), 0
	for _, pattern := range []string{"../lb/*.go", "../admit/*.go", "../certificate/*.go", "../host/*.go", "../engine/*/*.go", "../engine/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, m := range regexp.MustCompile(`"([^"\n]*(?:more than|at most) %d[^"\n]*)"`).FindAllStringSubmatch(literals(page(t, file)), -1) {
				found++
				if !slices.Contains(inside, m[1]) && !said(words(m[1]), quoted) {
					t.Errorf("%s: no page says %q", file, m[1])
				}
			}
		}
	}
	if found < 15 {
		t.Errorf("only %d are found", found)
	}
}

// Each event that has a reason of its own has its place.
func TestEventsAreOnThePage(t *testing.T) {
	files, err := filepath.Glob("../../controllers/*.go")
	if err != nil {
		t.Fatal(err)
	}
	text, found := page(t, troubleshooting), 0
	for _, file := range files {
		for _, m := range regexp.MustCompile(`events\.warning\([^,]+, [^,]+, "(\w+)"`).FindAllStringSubmatch(page(t, file), -1) {
			if found++; !strings.Contains(text, "`"+m[1]+"`") {
				t.Errorf("%s: the page has no `%s`", file, m[1])
			}
		}
	}
	if found < 3 {
		t.Errorf("only %d are found", found)
	}
}

// Each reason of a condition, error of a port, and failure of a host that is told has its place.
func TestWhatGoesWrongIsOnThePage(t *testing.T) {
	text := page(t, troubleshooting)
	names, err := os.ReadFile("../../api/v1alpha1/names.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\t(?:Reason|PortError)\w+ += "([^"]+)"`).FindAllStringSubmatch(string(names), -1) {
		if !slices.Contains(noTrouble, m[1]) && !strings.Contains(text, "`"+m[1]+"`") {
			t.Errorf("the page has no `%s`", m[1])
		}
	}
	quoted := strings.Join(words(text), " ")
	for _, pattern := range []string{"../host/*.go", "../engine/*/*.go", "../engine/*.go", "../deliver/sshauth.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			code, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, m := range regexp.MustCompile(`(?:[fF]ailed\(|Message: |Damaged = errors\.New\()"([^"]+)`).FindAllStringSubmatch(literals(string(code)), -1) {
				if w := words(m[1]); len(w) > 4 && !said(w, quoted) {
					t.Errorf("%s: the page does not say %q", file, m[1])
				}
			}
		}
	}
}
