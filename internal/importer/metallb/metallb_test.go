package metallb

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/importer"
)

var update = flag.Bool("update", false, "write the expected outputs in testdata anew")

// TestObjectsBecomeOurs has a case in each file of testdata: manifests, and what is printed.
func TestObjectsBecomeOurs(t *testing.T) {
	cases, err := filepath.Glob("../testdata/metallb/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range cases {
		t.Run(filepath.Base(file), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			objects, services := read(t, string(archive.Files[0].Data))
			options := importer.Options{
				Balancer: "edge", Engine: v1alpha1.EngineNginx,
				Hosts: []v1alpha1.Host{{Name: "lb1", Address: "192.0.2.5", SecretRef: &corev1.LocalObjectReference{Name: "edge-ssh"}}},
			}
			if strings.Contains(string(archive.Comment), "vrrp") {
				options.VRRP = &v1alpha1.VRRPSettings{Interface: "eth0", VirtualRouterID: 76}
			}
			result, err := Make(objects, services, options)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			if err := result.Print(&got); err != nil {
				t.Fatal(err)
			}
			if *update {
				archive.Files[1].Data = []byte(got.String())
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if diff := cmp.Diff(string(archive.Files[1].Data), got.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func read(t testing.TB, text string) (objects []Object, services []*corev1.Service) {
	t.Helper()
	for doc := range strings.SplitSeq(text, "---\n") {
		data, err := yaml.YAMLToJSON([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		if svc := new(corev1.Service); strings.Contains(doc, "kind: Service\n") {
			if err := yaml.UnmarshalStrict([]byte(doc), svc); err != nil {
				t.Fatal(err)
			}
			services = append(services, svc)
			continue
		}
		name, _, _ := strings.Cut(doc, "\n")
		objects = append(objects, Object{importer.Place{File: strings.TrimPrefix(name, "# ")}, data})
	}
	return objects, services
}

func TestRangesLoseAddresses(t *testing.T) {
	for _, c := range []struct{ in, avoid, want string }{
		{"203.0.113.0/24", "", "203.0.113.1-203.0.113.254"},
		{"203.0.113.7-203.0.114.2", "", "203.0.113.7-203.0.113.254 203.0.114.1-203.0.114.2"},
		{"203.0.113.0-203.0.113.0", "", ""},
		{"203.0.113.255/32", "", ""},
		{"203.0.113.9/32", "", "203.0.113.9"},
		{"255.255.255.0/24", "", "255.255.255.1-255.255.255.254"},
		{"2001:db8::/120", "", "2001:db8::/120"},
	} {
		s, err := parseSpan(c.in)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, part := range s.withoutBuggy() {
			got = append(got, string(part.text()))
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s: %s, want %s", c.in, text, c.want)
		}
	}
	for in, want := range map[string]string{
		"203.0.113.0/28":                 "203.0.113.0/28",
		"203.0.113.5/28":                 "203.0.113.0/28",
		"203.0.113.0 - 203.0.113.15":     "203.0.113.0/28",
		"203.0.113.1-203.0.113.1":        "203.0.113.1",
		"203.0.113.1-203.0.113.15":       "203.0.113.1-203.0.113.15",
		"2001:db8::1-2001:db8::ffff":     "2001:db8::1-2001:db8::ffff",
		"0.0.0.0/0":                      "0.0.0.0/0",
		"::ffff:192.0.2.1-192.0.2.2":     "192.0.2.1-192.0.2.2",
		"203.0.113.2-203.0.113.1":        "",
		"203.0.113.2-2001:db8::1":        "",
		"203.0.113.2":                    "",
		"2001:db8::-2001:db8::ffff:ffff": "2001:db8::/96",
	} {
		s, err := parseSpan(in)
		if got := string(s.text()); (err != nil) != (want == "") || err == nil && got != want {
			t.Errorf("%s: %s, %v; want %s", in, got, err, want)
		}
	}
}

// FuzzMake: whatever an object has, it is read or refused, and what is made of it can be printed.
func FuzzMake(f *testing.F) {
	cases, err := filepath.Glob("../testdata/metallb/*.txtar")
	if err != nil || len(cases) == 0 {
		f.Fatalf("no cases: %v", err)
	}
	for _, file := range cases {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		objects, _ := read(f, string(archive.Files[0].Data))
		for _, o := range objects {
			f.Add(o.Data, "203.0.113.7")
		}
	}
	f.Add([]byte(`{"kind":"IPAddressPool","spec":{"addresses":["0.0.0.0/0","::/0","1-2"],"avoidBuggyIPs":true}}`), "::1")
	f.Fuzz(func(t *testing.T, data []byte, address string) {
		svc := &corev1.Service{}
		svc.Namespace, svc.Name, svc.Spec.Type = "default", "web", corev1.ServiceTypeLoadBalancer
		svc.Annotations = map[string]string{"metallb.io/loadBalancerIPs": address, "metallb.universe.tf/allow-shared-ip": "key"}
		result, err := Make([]Object{{Data: data}}, []*corev1.Service{svc}, importer.Options{Balancer: "edge"})
		if err != nil {
			return
		}
		if err := result.Print(new(strings.Builder)); err != nil {
			t.Fatal(err)
		}
	})
}
