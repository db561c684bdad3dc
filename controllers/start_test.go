package controllers

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/external-lb/external-lb/test/wait"
)

// gate is a way to the API server that is closed at first.
type gate struct {
	open    atomic.Bool
	refused atomic.Int64
}

// config reaches the API server through the gate.
func (g *gate) config() *rest.Config {
	c := rest.CopyConfig(api)
	dial := c.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if !g.open.Load() {
			g.refused.Add(1)
			return nil, errors.New("the API server is down")
		}
		return dial(ctx, network, address)
	}
	return c
}

// A controller that starts before its API server waits for it, and works then.
func TestStartsBeforeTheAPIServer(t *testing.T) {
	w := newWorld(t)
	w.stop()
	g := &gate{}
	w.api = g.config()
	w.start()
	wait.True(t, "it has tried", func() bool { return g.refused.Load() > 3 })
	svc := w.service("early")
	g.open.Store(true)
	w.published(svc)
}

// A controller that is not given the Secrets could serve nobody: it leaves the lead to another
// one, and works once it is given them.
func TestDoesNotLeadBeforeItReadsSecrets(t *testing.T) {
	w := newWorld(t)
	w.stop()
	var allowed atomic.Bool
	var refused atomic.Int64
	w.api = rest.CopyConfig(api)
	w.api.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if allowed.Load() || !strings.HasSuffix(r.URL.Path, "/secrets") {
				return next.RoundTrip(r)
			}
			refused.Add(1)
			answer := httptest.NewRecorder()
			answer.WriteHeader(http.StatusForbidden)
			return answer.Result(), nil
		})
	})
	w.start()
	wait.True(t, "it has tried", func() bool { return refused.Load() > 3 })
	lease := &coordinationv1.Lease{}
	w.check(kube.Get(t.Context(), client.ObjectKey{Namespace: metav1.NamespaceDefault, Name: leaseName}, lease))
	if holder := lease.Spec.HolderIdentity; holder != nil && *holder != "" {
		t.Errorf("%s leads", *holder)
	}
	svc := w.service("early")
	allowed.Store(true)
	w.published(svc)
}

// What the rights name, the controller knows the resource of.
func TestMapperKnowsWhatTheRightsName(t *testing.T) {
	known, err := mapper(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("../config/rbac/role.yaml")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for document := range strings.SplitSeq(string(data), "---\n") {
		var role rbacv1.ClusterRole
		if err := yaml.Unmarshal([]byte(document), &role); err != nil {
			t.Fatal(err)
		}
		for _, rule := range role.Rules {
			for _, resource := range rule.Resources {
				resource, _, _ = strings.Cut(resource, "/")
				count++
				if _, err := known.KindFor(schema.GroupVersionResource{Group: rule.APIGroups[0], Resource: resource}); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if count < 5 {
		t.Errorf("the rights name %d resources", count)
	}
}
