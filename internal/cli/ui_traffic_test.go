package cli

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

// The page has what the manager's metrics say, and no number where they say none.
func TestUI_ReadsTheManagersMetrics(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, managerSays(1000, 50)) }))
	defer server.Close()
	ask, err := (&managerMetrics{url: server.URL}).traffic(nil)
	if err != nil {
		t.Fatal(err)
	}
	looks, err := ask(t.Context())
	if err != nil || len(looks) != 2 {
		t.Fatalf("%+v, %v", looks, err)
	}
	for _, l := range looks {
		if l.Balancer != "edge" || l.At.Unix() != 1000 {
			t.Errorf("%+v", l)
		}
		for _, p := range l.Ports {
			if p.Service != (types.NamespacedName{Namespace: "default", Name: "web"}) {
				continue
			}
			switch l.Host {
			case "lb1":
				if p.Open != 7 || p.Made != 50 || p.In != 50_000 || p.Up != 2 || p.Down != 0 {
					t.Errorf("lb1: %+v", p)
				}
			case "lb2":
				if p.Open != 3 || p.Made != -1 || p.In != -1 || p.Up+p.Down != 0 {
					t.Errorf("lb2: %+v", p)
				}
			}
		}
	}
	server.Close()
	if _, err := ask(t.Context()); err == nil {
		t.Error("a manager that does not answer has traffic")
	}
}
