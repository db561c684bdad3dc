package ui

import (
	"context"
	"net/url"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A real API server: what is there is shown, what changes follows, and when the server
// fails the page says so, until it shows again what is.
func TestThePageFollowsACluster(t *testing.T) {
	c := cluster.New(t, cluster.Options{ControlPlaneOnly: true})
	scheme := runtime.NewScheme()
	must(t, clientgoscheme.AddToScheme(scheme))
	must(t, v1alpha1.AddToScheme(scheme))
	config := c.RESTConfig()
	config.QPS = -1
	o := Options{Config: config, Scheme: scheme, Ready: func(string) { t.Error("it is ready") }}
	if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "external-lb is not installed in this cluster") {
		t.Errorf("without our kinds it says %v", err)
	}
	_, err := envtest.InstallCRDs(config, envtest.CRDInstallOptions{Paths: []string{"../../config/crd/bases"}, ErrorIfPathMissing: true})
	must(t, err)
	stranger := rest.CopyConfig(config)
	stranger.Impersonate.UserName = "stranger"
	o.Config = stranger
	if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("to who may read nothing it says %v", err)
	}

	kube, err := client.New(config, client.Options{Scheme: scheme})
	must(t, err)
	balancer := builder.Balancer("edge").Hosts(v1alpha1.Host{Name: "lb1", Local: &v1alpha1.LocalHost{}}).Manifest()
	must(t, kube.Create(t.Context(), balancer))
	page := openOn(t, config, scheme)
	page.until("balancer/edge", "the controller has not seen it yet")
	page.until(clusterKey, `"loaded":true`)

	svc := builder.Service("default", "web").Class("external-lb.dev/edge").PortOf(corev1.ProtocolTCP, 80, 0).Manifest()
	must(t, kube.Create(t.Context(), svc))
	page.until("service/default/web", "80/TCP")
	must(t, kube.Create(t.Context(), event(svc, "external-lb", "by us")))
	must(t, kube.Create(t.Context(), event(svc, "somebody-else", "by another")))
	page.until("service/default/web", "by us")
	if strings.Contains(string(page.items["service/default/web"]), "by another") {
		t.Error("events of others are shown")
	}

	must(t, c.StopAPIServer())
	page.until(clusterKey, "asking the API server")
	if page.items["service/default/web"] == nil {
		t.Error("what was known is no longer shown")
	}
	must(t, c.StartAPIServer(t.Context()))
	must(t, kube.Delete(t.Context(), svc))
	page.until("service/default/web", "")
	page.until(clusterKey, `"loaded":true}`)
}

func event(svc *corev1.Service, source, message string) *corev1.Event {
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: svc.Namespace, GenerateName: "web-"},
		InvolvedObject: corev1.ObjectReference{Kind: "Service", Namespace: svc.Namespace, Name: svc.Name, UID: svc.UID},
		Source:         corev1.EventSource{Component: source}, Type: corev1.EventTypeNormal, Reason: "Told",
		Message: message, LastTimestamp: metav1.Now(),
	}
}

// openOn runs the whole, and opens the page.
func openOn(t *testing.T, config *rest.Config, scheme *runtime.Scheme) *reader {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended, ready := make(chan error, 1), make(chan string, 1)
	go func() {
		ended <- Run(ctx, Options{Config: config, Scheme: scheme, Ready: func(url string) { ready <- url }})
	}()
	t.Cleanup(func() {
		cancel()
		must(t, <-ended)
	})
	select {
	case at := <-ready:
		parsed, err := url.Parse(at)
		must(t, err)
		if parsed.Hostname() != "127.0.0.1" || len(parsed.Path) < 20 {
			t.Errorf("the page is at %s", at)
		}
		r, code := listen(t, at+"events")
		if code != 200 {
			t.Fatalf("the page answers %d", code)
		}
		return r
	case err := <-ended:
		t.Fatalf("it ended: %v", err)
	}
	return nil
}

// until an item has a text; "": until it is gone. The test's own time is the limit.
func (b *reader) until(key, text string) {
	b.t.Helper()
	for {
		data, there := b.items[key]
		if text == "" && !there || text != "" && strings.Contains(string(data), text) {
			return
		}
		b.next()
	}
}
