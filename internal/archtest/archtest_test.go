// Package archtest holds the directions of imports: who may know whom.
package archtest

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/external-lb/external-lb"

// rooms of engines: their folders.
var rooms = findRooms()

// may says which packages of the module each may import: imports go down. A package
// that is not here is a fault, and so is a row of which nothing is true any more. What is
// below test/ and docs/ may import all.
var may = with(map[string][]string{
	"":             {"internal/cli"},
	"api/v1alpha1": nil,
	"templates":    nil,
	"provider":     {"internal/text"}, // others import it, too

	"internal/provider/kit":       {"provider"},
	"internal/provider/openstack": {"internal/provider/caller", "internal/provider/sources", "provider"},
	"internal/provider/alibaba":   {"internal/provider/caller", "internal/provider/sources", "provider"},
	"internal/provider/caller":    nil,
	"internal/provider/sources":   nil,
	"examples/provider":           {"provider"},

	"internal/provider/providertest":        {"provider", "test/wait"},
	"internal/provider/alibaba/alibabatest": nil,

	"internal/provider/transport": {"internal/deliver", "internal/engine", "internal/host", "internal/lb", "internal/wire", "provider"},

	// an exception: it runs them, and takes their scheme and targets
	"internal/cli": slices.Concat(lower, imports, []string{"controllers", "internal/cli/documents", "internal/provider/alibaba", "internal/provider/kit", "internal/provider/openstack", "internal/ui", "internal/ui/page", "provider"}),
	"controllers":  {"api/v1alpha1", "internal/conditions", "internal/deliver", "internal/host", "internal/ipam", "internal/lb", "internal/plan", "internal/provider/transport", "internal/record", "internal/text", "internal/translate", "internal/ui", "internal/ui/page", "provider"},

	"internal/cli/documents": nil,
	"internal/text":          nil,
	"internal/ui":            {"api/v1alpha1", "internal/ui/page"},

	// What others keep by hand, into our kinds: pure. Each source has a room.
	"internal/importer":              {"api/v1alpha1", "internal/engine", "internal/engine/engines", "internal/lb", "internal/text"},
	"internal/importer/sources":      {"internal/importer", "internal/importer/haproxy", "internal/importer/keepalived", "internal/importer/nginx"},
	"internal/importer/importertest": {"internal/importer"},
	"internal/importer/haproxy":      ofASource,
	"internal/importer/keepalived":   ofASource,
	"internal/importer/metallb":      ofASource,
	"internal/importer/nginx":        ofASource,

	// From what the API server says to what hosts are to carry, and back: pure.
	"internal/conditions": {"api/v1alpha1", "internal/deliver", "internal/engine/engines", "internal/host", "internal/ipam", "internal/lb", "internal/plan", "internal/record", "internal/text", "internal/translate", "provider"},
	"internal/explain":    {"api/v1alpha1", "internal/lb", "internal/plan", "internal/record", "internal/translate"},
	"internal/preflight":  {"api/v1alpha1", "internal/admit", "internal/explain", "internal/lb", "internal/plan", "internal/record"},
	"internal/plan":       {"api/v1alpha1", "internal/ipam", "internal/lb", "internal/record", "internal/translate"},
	"internal/translate":  {"api/v1alpha1", "internal/certificate", "internal/engine", "internal/engine/engines", "internal/lb"},
	"internal/ipam":       {"api/v1alpha1", "internal/lb"},
	"internal/record":     {"api/v1alpha1", "internal/lb"},
	"internal/ui/page":    {"api/v1alpha1", "internal/ipam", "internal/plan", "internal/record", "internal/text", "internal/translate"},

	// Between the two ends. Of host they know the contract.
	"internal/deliver":     {"api/v1alpha1", "internal/host", "internal/lb", "internal/text", "internal/wire", "provider"},
	"internal/wire":        {"internal/host", "internal/lb", "internal/text", "internal/wire/wirepb"},
	"internal/wire/wirepb": nil,

	// The host's end.
	"internal/host":              {"internal/admit", "internal/engine", "internal/fileset", "internal/lb", "internal/preview", "internal/render"},
	"internal/admit":             {"internal/lb"},
	"internal/render":            {"internal/engine", "internal/fileset", "internal/lb"},
	"internal/fileset":           nil,
	"internal/preview":           nil, // before all else: see docs/design/0032-preview-before-all-else.md
	"internal/render/rendertest": nil,

	// Who is handed the table does not import it; nobody imports an engine but the table.
	"internal/engine":         {"internal/fileset", "internal/lb", "internal/preview"},
	"internal/engine/engines": slices.Concat(rooms, []string{"internal/engine"}),
	"internal/engine/lvs":     slices.Concat(ofARoom, []string{"internal/engine/keepalived"}), // which checks and fills the kernel's table

	// The model.
	"internal/lb":          {"internal/certificate", "internal/lb/lbpb"},
	"internal/lb/lbpb":     nil,
	"internal/lb/lbtest":   {"internal/certificate", "internal/lb", "internal/lb/lbpb"},
	"internal/certificate": nil,
	"internal/archtest":    nil,
}, rooms, ofARoom)

// ofASource is what the room of a source imports.
var ofASource = []string{"api/v1alpha1", "internal/importer"}

// ofARoom is what an engine may import.
var ofARoom = []string{"internal/engine", "internal/fileset", "internal/lb", "templates"}

// imports are what the command of that name puts together.
var imports = []string{"internal/importer", "internal/importer/metallb", "internal/importer/sources"}

// lower is all that commands put together.
var lower = []string{"api/v1alpha1", "internal/admit", "internal/deliver", "internal/engine", "internal/engine/engines", "internal/explain", "internal/fileset", "internal/host",
	"internal/ipam", "internal/lb", "internal/plan", "internal/preflight", "internal/record", "internal/render", "internal/text", "internal/translate", "internal/wire"}

// with adds rows for packages that have none.
func with(all map[string][]string, more []string, row []string) map[string][]string {
	for _, name := range more {
		if _, there := all[name]; !there {
			all[name] = row
		}
	}
	return all
}

// rule forbids imports that no row of may forbids. A trailing slash means everything
// below.
type rule struct {
	why  string
	from []string
	not  []string
}

var (
	kubernetes = []string{"k8s.io/", "sigs.k8s.io/controller-runtime/"}
	clients    = []string{"k8s.io/client-go/", "sigs.k8s.io/controller-runtime/"}
	// impure is what a function of its arguments alone has no use for.
	impure = slices.Concat(clients, []string{"context", "log", "log/slog", "net", "net/http", "os", "os/exec", "github.com/go-logr/logr", "github.com/prometheus/", "go.opentelemetry.io/"})
)

// pure are functions of their arguments.
var pure = []string{"api/v1alpha1", "templates", "internal/admit", "internal/certificate", "internal/cli/documents", "internal/conditions", "internal/explain", "internal/fileset",
	"internal/importer", "internal/importer/haproxy", "internal/importer/keepalived", "internal/importer/metallb", "internal/importer/nginx", "internal/importer/sources",
	"internal/ipam", "internal/lb", "internal/plan", "internal/preflight", "internal/record", "internal/render", "internal/text", "internal/translate", "internal/ui/page"}

var rules = []rule{
	{"what is pure takes no context, logger or client", pure, impure},
	{"a host knows nothing of Kubernetes", slices.Concat(rooms, []string{"internal/admit", "internal/certificate", "internal/engine", "internal/engine/engines", "internal/fileset",
		"internal/host", "internal/lb", "internal/preview", "internal/render", "internal/wire", "templates"}), kubernetes},
	{"deliveries know what the worker says, and ask no API server", []string{"internal/deliver"}, clients},
	{"tests of every package import it", []string{"test/builder", "test/freeport", "test/wait"},
		slices.Concat(clients, []string{module + "/internal/", module + "/test/"})},
}

// findRooms lists the packages below internal/engine, but for the table.
func findRooms() (found []string) {
	entries, err := os.ReadDir("../engine")
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		if e.IsDir() && e.Name() != "engines" && e.Name() != "testdata" {
			found = append(found, "internal/engine/"+e.Name())
		}
	}
	return found
}

// How the model becomes files is pure, also beside the daemon that reads them.
func TestRenderingIsPure(t *testing.T) {
	for _, room := range rooms {
		files, err := filepath.Glob(filepath.Join("../..", room, "render*.go"))
		if err != nil || len(files) == 0 {
			t.Errorf("%s has no render.go: %v", room, err)
		}
		for _, path := range append(files, filepath.Join("../..", room, "capabilities.go")) {
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			if errors.Is(err, fs.ErrNotExist) {
				continue // what moves addresses has no settings
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range file.Imports {
				imported, err := strconv.Unquote(i.Path.Value)
				if err != nil || slices.ContainsFunc(impure, func(not string) bool { return matches(imported, not) }) {
					t.Errorf("%s imports %s, and is no function of its arguments then", path, i.Path.Value)
				}
			}
		}
	}
}

func TestImportsGoDown(t *testing.T) {
	rows := maps.Clone(may)
	for name, imports := range list(t) {
		name = strings.TrimPrefix(strings.TrimPrefix(name, module), "/")
		if strings.HasPrefix(name, "test/") || strings.HasPrefix(name, "docs/") {
			continue
		}
		allowed, known := rows[name]
		if !known {
			t.Errorf("%s is new: say here what it may import", name)
		}
		delete(rows, name)
		used := map[string]bool{}
		for _, imported := range imports {
			if own, ok := strings.CutPrefix(imported, module+"/"); ok {
				if used[own] = true; !slices.Contains(allowed, own) {
					t.Errorf("%s imports %s, which is not below it", name, own)
				}
			}
		}
		for _, own := range allowed {
			if !used[own] && !slices.Contains(rooms, name) {
				t.Errorf("%s no longer imports %s: forbid it", name, own)
			}
		}
	}
	for name := range rows {
		t.Errorf("there is no package %s", name)
	}
}

func TestWhoKnowsWhatIsOutside(t *testing.T) {
	imports := list(t)
	for _, r := range rules {
		for _, from := range r.from {
			direct, ok := imports[module+"/"+from]
			if !ok {
				t.Errorf("there is no package %s", from)
			}
			for _, imported := range direct {
				if slices.ContainsFunc(r.not, func(not string) bool { return matches(imported, not) }) {
					t.Errorf("%s imports %s: %s", from, imported, r.why)
				}
			}
		}
	}
}

// A clock is not seen in the imports.
func TestWhatIsPureHasNoClock(t *testing.T) {
	for _, name := range pure {
		files, err := filepath.Glob(filepath.Join("../..", name, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				of, ok := call.X.(*ast.Ident)
				clock := []string{"Now", "Since", "Until", "After", "Sleep", "NewTimer", "NewTicker"}
				if ok && of.Name == "time" && slices.Contains(clock, call.Sel.Name) {
					t.Errorf("%s asks a clock", set.Position(call.Pos()))
				}
				return true
			})
		}
	}
}

func matches(imported, not string) bool {
	return imported == not || strings.HasSuffix(not, "/") && strings.HasPrefix(imported, not)
}

// list finds the direct imports of every package of the module, without tests.
func list(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", module+"/...")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for decoder := json.NewDecoder(out); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		found[p.ImportPath] = p.Imports
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return found
}
