package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/engine/engines"
)

// mayName are the places that may name an engine: its own room and the table, what users
// write, what reads files of the same software, and tests.
var mayName = []string{"internal/engine/", "internal/importer/", "api/", "templates/", "docs/", "test/", "internal/render/rendertest/"}

// exceptions are files whose texts may name one all the same, each with its reason.
var exceptions = map[string]string{
	"internal/cli/root.go":      "what the program says of itself",
	"internal/cli/host.go":      "what the command says of itself, and examples",
	"internal/cli/render.go":    "examples",
	"internal/cli/templates.go": "examples",
}

// TestNobodyNamesAnEngine holds that another engine is a folder below internal/engine,
// a folder below templates, and a line in the table: whoever names one would have to be
// found and changed, too.
func TestNobodyNamesAnEngine(t *testing.T) {
	names := regexp.MustCompile(`(?i)` + strings.Join(append(engines.Table.Names(), engines.Table.VRRP.Name), "|"))
	used := map[string]bool{}
	const root = "../.."
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		file, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		file = filepath.ToSlash(file)
		switch {
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && file != "." || hasPrefix(file+"/", mayName)):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		for _, found := range named(t, path, names) {
			if exceptions[file] == "" || !found.text {
				t.Errorf("%s names an engine: %s", found.at, found.name)
			}
			used[file] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for file := range exceptions {
		if !used[file] {
			t.Errorf("%s needs no exception", file)
		}
	}
}

func hasPrefix(path string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(path, p) {
			return true
		}
	}
	return false
}

// mention is a place in which a name is.
type mention struct {
	at   token.Position
	name string
	text bool // it is in a text for people or programs, and no identifier
}

// named are the identifiers and strings of a file in which a name is.
func named(t *testing.T, path string, names *regexp.Regexp) (found []mention) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		where, literal := "", false
		switch n := n.(type) {
		case *ast.Ident:
			where = n.Name
		case *ast.BasicLit:
			where, literal = n.Value, true
		}
		if name := names.FindString(where); name != "" {
			found = append(found, mention{set.Position(n.Pos()), name, literal})
		}
		return true
	})
	return found
}
