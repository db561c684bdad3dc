package importer_test

import (
	"flag"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/importer"
	"github.com/external-lb/external-lb/internal/importer/sources"
)

var update = flag.Bool("update", false, "write the expected outputs in testdata anew")

// TestFilesBecomeManifests has a case in each file of testdata/SOURCE. The first file of the
// archive is the one that is named; `cluster` has Services and Nodes; `want` is what is
// printed. Lines before the first file are options, as of the command.
func TestFilesBecomeManifests(t *testing.T) {
	for _, source := range sources.Table {
		cases, err := filepath.Glob(filepath.Join("testdata", source.Name, "*.txtar"))
		if err != nil || len(cases) == 0 {
			t.Fatalf("%s has no cases: %v", source.Name, err)
		}
		for _, file := range cases {
			t.Run(source.Name+"/"+strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { golden(t, source, file) })
		}
	}
}

func golden(t *testing.T, source importer.Source, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range archive.Files {
		files[f.Name] = string(f.Data)
	}
	first := archive.Files[0]
	configuration, err := source.Parse([]importer.File{{Name: first.Name, Text: string(first.Data)}}, within(archive))
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	if err := importer.Make(configuration, cluster(t, files["cluster"]), options(t, source, string(archive.Comment))).Print(&got); err != nil {
		t.Fatal(err)
	}
	if *update {
		for i := range archive.Files {
			if archive.Files[i].Name == "want" {
				archive.Files[i].Data = []byte(got.String())
			}
		}
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(files["want"], got.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// within finds included files in the archive.
func within(archive *txtar.Archive) importer.Include {
	return func(pattern string) (found []importer.File, err error) {
		for _, f := range archive.Files {
			if ok, err := path.Match(pattern, f.Name); ok && err == nil {
				found = append(found, importer.File{Name: f.Name, Text: string(f.Data)})
			}
		}
		return found, nil
	}
}

func cluster(t *testing.T, text string) (out importer.Cluster) {
	t.Helper()
	for doc := range strings.SplitSeq(text, "---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		svc, node := &corev1.Service{}, &corev1.Node{}
		if err := yaml.UnmarshalStrict([]byte(doc), svc); err == nil && svc.Kind == "Service" {
			if svc.Namespace == "" {
				svc.Namespace = corev1.NamespaceDefault
			}
			out.Services = append(out.Services, svc)
		} else if err := yaml.UnmarshalStrict([]byte(doc), node); err == nil {
			out.Nodes = append(out.Nodes, node)
		} else {
			t.Fatal(err)
		}
	}
	return out
}

func options(t *testing.T, source importer.Source, text string) importer.Options {
	t.Helper()
	out := importer.Options{Balancer: "edge", Engine: source.Engine}
	for line := range strings.Lines(text) {
		key, value, found := strings.Cut(strings.TrimSpace(line), "=")
		switch {
		case !found || strings.HasPrefix(line, "#"):
		case key == "engine":
			out.Engine = v1alpha1.Engine(value)
		case key == "host":
			secret := &corev1.LocalObjectReference{Name: "edge-ssh"}
			out.Hosts = append(out.Hosts, v1alpha1.Host{Name: value, Address: "192.0.2.5", SecretRef: secret})
		case key == "address":
			out.Addresses = append(out.Addresses, netip.MustParseAddr(value))
		default:
			t.Fatalf("there is no option %s", key)
		}
	}
	return out
}

// What is read is bounded, also where files include each other.
func TestWhatIsReadIsBounded(t *testing.T) {
	for name, c := range map[string]struct{ source, text, want string }{
		"bytes of nginx":        {"nginx", strings.Repeat("a b;\n", importer.MaxBytes/5+1), "larger than"},
		"bytes of haproxy":      {"haproxy", strings.Repeat("global\n", importer.MaxBytes/7+1), "larger than"},
		"bytes of keepalived":   {"keepalived", strings.Repeat("a b\n\n", importer.MaxBytes/5+1), "larger than"},
		"a word of nginx":       {"nginx", strings.Repeat("a", importer.MaxLine+1) + ";", "longer than"},
		"quotes of nginx":       {"nginx", `"` + strings.Repeat("a", importer.MaxLine+1) + `";`, "not closed"},
		"a line of haproxy":     {"haproxy", strings.Repeat("a", importer.MaxLine+1), "longer than"},
		"a line of keepalived":  {"keepalived", strings.Repeat("a", importer.MaxLine+1), "longer than"},
		"blocks of nginx":       {"nginx", strings.Repeat("a {", importer.MaxNesting+2), "nested more than"},
		"blocks of keepalived":  {"keepalived", strings.Repeat("a {\n", importer.MaxNesting+2), "nested more than"},
		"nginx in itself":       {"nginx", "include self;", "nested more than"},
		"keepalived in itself":  {"keepalived", "include self\n", "include each other more than"},
		"twice itself of nginx": {"nginx", "include self; include self;", "nested more than"},
	} {
		for _, source := range sources.Table {
			if source.Name != c.source {
				continue
			}
			self := importer.File{Name: "self", Text: c.text}
			_, err := source.Parse([]importer.File{self}, func(string) ([]importer.File, error) { return []importer.File{self}, nil })
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", name, err, c.want)
			}
		}
	}
}
