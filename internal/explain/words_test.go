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

const troubleshooting = "../../docs/troubleshooting.md"

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

func page(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(troubleshooting)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What the page quotes is what a user sees.
func TestThePageQuotesWhatIsSaid(t *testing.T) {
	all := program(t)
	quotes := regexp.MustCompile(`(?:^|[^*\w])\*([^*]+)\*`).FindAllStringSubmatch(page(t), -1)
	if len(quotes) < 50 {
		t.Fatalf("only %d quotes are found", len(quotes))
	}
	for _, q := range quotes {
		if quote := strings.Join(strings.Fields(q[1]), " "); !slices.Contains(othersWords, quote) && !said(words(quote), all) {
			t.Errorf("nothing says *%s*", quote)
		}
	}
}

// Each reason of a condition, error of a port, and failure of a host that is told has its place.
func TestWhatGoesWrongIsOnThePage(t *testing.T) {
	text := page(t)
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
			for _, m := range regexp.MustCompile(`(?:[fF]ailed\(|Message: )"([^"]+)`).FindAllStringSubmatch(literals(string(code)), -1) {
				if w := words(m[1]); len(w) > 4 && !said(w, quoted) {
					t.Errorf("%s: the page does not say %q", file, m[1])
				}
			}
		}
	}
}
