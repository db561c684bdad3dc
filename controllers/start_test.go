package controllers

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
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
