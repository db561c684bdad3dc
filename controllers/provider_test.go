package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/provider/providertest"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/provider"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/wait"
)

// clouded is a world with a Balancer that has a provider, and a pool.
type clouded struct {
	*world
	cloud *providertest.Cloud
	name  string
}

func newClouded(t *testing.T, token string) clouded {
	t.Helper()
	w := newWorld(t)
	cloud, url := providertest.Serve(t)
	c := clouded{w, cloud, w.balancer + "-cloud"}
	w.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: c.name}, StringData: map[string]string{"token": token}})
	w.create(builder.Balancer(c.name).With(impatient, func(b *v1alpha1.Balancer) {
		b.Spec.Engine = v1alpha1.EngineProvider
		b.Spec.Provider = &v1alpha1.Provider{URL: url, SecretRef: corev1.LocalObjectReference{Name: c.name}}
	}).Manifest())
	w.create(builder.AddressPool(c.name, v1alpha1.AddressRange(fmt.Sprintf("198.51.%d.0/28", worlds))).Balancer(c.name).Manifest())
	t.Cleanup(func() {
		ctx := context.Background()
		cloud.Lock()
		cloud.PutFault, cloud.DeleteFault = nil, nil
		cloud.Unlock()
		w.check(kube.DeleteAllOf(ctx, &corev1.Service{}, client.InNamespace(w.namespace)))
		b := builder.Balancer(c.name).Manifest()
		w.check(kube.Delete(ctx, b))
		w.gone(b)
	})
	return c
}

// web creates a Service of the Balancer with a provider.
func (c clouded) web(name string) *corev1.Service {
	return c.service(name, func(s *corev1.Service) { s.Spec.LoadBalancerClass = new(v1alpha1.DefaultClassPrefix + c.name) })
}

func (c clouded) get() *v1alpha1.Balancer {
	c.t.Helper()
	b := &v1alpha1.Balancer{}
	c.check(kube.Get(context.Background(), client.ObjectKey{Name: c.name}, b))
	return b
}

// asks are the requests for load balancers so far, and those that there are.
func (c clouded) asks() (puts, there int) {
	c.cloud.Lock()
	defer c.cloud.Unlock()
	return c.cloud.Puts, len(c.cloud.All)
}

func TestProvider_ServesAService(t *testing.T) {
	c := newClouded(t, providertest.Token)
	svc := c.web("web")
	address := c.published(svc)
	if !strings.HasPrefix(address, "198.51.") {
		t.Errorf("address %s", address)
	}
	c.cloud.Lock()
	for id, s := range c.cloud.All {
		if id.Service != string(svc.UID) || s.Name != "web" || s.Families[0].Address.String() != address || len(s.Families[0].Members) != 1 {
			t.Errorf("%+v: %+v", id, s)
		}
	}
	c.cloud.Unlock()
	wait.For(t, func(context.Context) error {
		if b := c.get(); b.Status.HostsInSync != "1/1" || b.Status.Provider == nil || b.Status.Provider.Name != "test" {
			return fmt.Errorf("%+v", b.Status)
		}
		return nil
	})
	puts, _ := c.asks()
	c.restart()
	c.published(c.web("second")) // and so the new manager has delivered
	if now, there := c.asks(); now != puts+1 || there != 2 {
		t.Errorf("%d requests after a restart for one more Service, and %d load balancers", now-puts, there)
	}
	c.check(kube.Delete(t.Context(), svc))
	c.gone(svc)
	if _, there := c.asks(); there != 1 {
		t.Errorf("a Service is gone, and %d load balancers are there", there)
	}
}

// Where the cloud gives the addresses, a Service is told its own once that is proved, or the
// hostname, and keeps it over a restart.
func TestProvider_GivesAnAddress(t *testing.T) {
	c := newClouded(t, providertest.Token)
	pool := builder.AddressPool(c.name).Manifest()
	c.check(kube.Patch(t.Context(), pool, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"addresses":["Provider"]}}`))))
	svc, second := c.web("web"), c.web("second")
	shows := func(svc *corev1.Service, want string) {
		t.Helper()
		c.until(svc, want, func(s *corev1.Service) bool { return slices.Equal(record.Shows(s), []string{want}) })
	}
	gives := func(svc *corev1.Service) string {
		return providertest.Gives(provider.ID{Service: string(svc.UID)}, provider.IPv4).String()
	}
	shows(svc, gives(svc))
	shows(second, gives(second))
	c.event(svc, v1alpha1.EventEnsuring, "carries this Service on an IPv4 address of the cloud")
	c.cloud.Lock()
	for _, s := range c.cloud.All {
		if s.Families[0].Address.IsValid() {
			t.Errorf("it is asked for %s", s.Families[0].Address)
		}
	}
	c.cloud.Unlock()
	wait.For(t, func(ctx context.Context) error {
		if err := kube.Get(ctx, client.ObjectKeyFromObject(pool), pool); err != nil {
			return err
		}
		if is := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.ConditionAccepted); is == nil || is.Status != metav1.ConditionTrue || pool.Status.IPv4 != nil {
			return fmt.Errorf("%+v", pool.Status)
		}
		return nil
	})
	c.restart()
	third := c.web("third")
	shows(third, gives(third))
	shows(svc, gives(svc))
	c.cloud.Lock()
	c.cloud.Named = true
	c.cloud.Unlock()
	named := c.web("named")
	shows(named, providertest.Name(provider.ID{Service: string(named.UID)}))
	c.check(kube.Delete(t.Context(), svc))
	c.gone(svc)
	if _, there := c.asks(); there != 3 {
		t.Errorf("a Service is gone, and %d load balancers are there", there)
	}
}

// A pool of what a cloud gives is for a Balancer that has one.
func TestProvider_PoolsThatNoCloudGives(t *testing.T) {
	w := newWorld(t)
	pool := builder.AddressPool(w.balancer+"-given", v1alpha1.AddressesOfProvider).Balancer(w.balancer).Manifest()
	w.create(pool)
	wait.For(t, func(ctx context.Context) error {
		if err := kube.Get(ctx, client.ObjectKeyFromObject(pool), pool); err != nil {
			return err
		}
		is := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.ConditionAccepted)
		if is == nil || is.Status != metav1.ConditionFalse || !strings.Contains(is.Message, "name its addresses, or a Balancer with engine: provider") {
			return fmt.Errorf("%+v", pool.Status)
		}
		return nil
	})
	for says, p := range map[string]*builder.AddressPoolBuilder{
		"Provider stands alone": builder.AddressPool("p", v1alpha1.AddressesOfProvider, "192.0.2.1"),
		"one Service's":         builder.AddressPool("p", v1alpha1.AddressesOfProvider).Shared(),
		"or Provider":           builder.AddressPool("p", "provider"),
	} {
		if err := kube.Create(t.Context(), p.Manifest(), client.DryRunAll); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want %q, got %v", says, err)
		}
	}
}

// What the cloud says is told to the Service, and passes.
func TestProvider_TellsTheService(t *testing.T) {
	c := newClouded(t, providertest.Token)
	c.cloud.Lock()
	c.cloud.PutFault = func(provider.Spec) (*provider.Observed, error) {
		return nil, &provider.Error{Code: provider.QuotaExceeded, Message: "the project may have 3 load balancers"}
	}
	c.cloud.Unlock()
	svc := c.web("web")
	c.until(svc, "told", func(s *corev1.Service) bool {
		is := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionServiceProgrammed)
		return is != nil && is.Reason == v1alpha1.ReasonRefused && strings.Contains(is.Message, "QuotaExceeded: the project may have 3 load balancers")
	})
	c.event(svc, v1alpha1.EventSyncFailed, "QuotaExceeded")
}

// What the cloud cannot do is told on policies, as with an engine. Before it is known
// nothing is delivered, so nothing is taken for unsupported.
func TestProvider_SaysWhatItCannotDo(t *testing.T) {
	c := newClouded(t, providertest.Token)
	c.cloud.Lock()
	c.cloud.Change = func(can *provider.Capabilities) {
		can.Settings["retries"] = provider.Support{Missing: "this cloud tries once"}
		can.Protocols = []provider.Protocol{provider.TCP}
	}
	c.cloud.Unlock()
	c.web("web")
	policy := builder.UpstreamPolicy(c.namespace, "p").For("web").Retries(3).Manifest()
	c.create(policy)
	wait.For(t, func(ctx context.Context) error {
		if err := kube.Get(ctx, client.ObjectKeyFromObject(policy), policy); err != nil {
			return err
		}
		for _, s := range policy.Status.Targets {
			is := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionUnsupported)
			if is != nil && is.Status == metav1.ConditionTrue && strings.Contains(is.Message, "retries: this cloud tries once") {
				return nil
			}
		}
		return fmt.Errorf("%+v", policy.Status)
	})
	udp := c.service("udp", func(s *corev1.Service) {
		s.Spec.LoadBalancerClass, s.Spec.Ports[0].Protocol = new(v1alpha1.DefaultClassPrefix+c.name), corev1.ProtocolUDP
	})
	c.event(udp, v1alpha1.EventSyncFailed, "the provider test cannot carry 80/UDP")
}

func TestProvider_ThatCannotBeReached(t *testing.T) {
	c := newClouded(t, "wrong")
	svc := c.web("web")
	wait.For(t, func(context.Context) error {
		b := c.get()
		is := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionProgrammed)
		if is == nil || !strings.Contains(is.Message, "refuses the token") {
			return fmt.Errorf("%+v", b.Status)
		}
		return nil
	})
	c.check(kube.Patch(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: c.name}},
		client.RawPatch("application/merge-patch+json", []byte(`{"stringData":{"token":"`+providertest.Token+`"}}`))))
	c.published(svc)
}

func TestProvider_Schema(t *testing.T) {
	at := func(url string) v1alpha1.BalancerSpec {
		return v1alpha1.BalancerSpec{Engine: v1alpha1.EngineProvider, Provider: &v1alpha1.Provider{URL: url, SecretRef: corev1.LocalObjectReference{Name: "cloud"}}}
	}
	with := func(s v1alpha1.BalancerSpec, change func(*v1alpha1.BalancerSpec)) v1alpha1.BalancerSpec {
		change(&s)
		return s
	}
	const good = "https://provider.example.net"
	for says, specs := range map[string][]v1alpha1.BalancerSpec{
		"": {at(good), at(good + ":8443/octavia"), at("http://127.0.0.1:8480"), at("http://localhost:8480/"), at("http://[::1]:8480")},
		"url is https://HOST": {at("http://provider.example.net"), at("http://127.0.0.1.example.net"), at("http://localhost@example.net"), at("https://"), at("ftp://x"),
			at("https://user@example.net"), at(good + "?x"), at(good + "#x"), at("https://a b")},
		"needs provider": {with(at(good), func(s *v1alpha1.BalancerSpec) { s.Engine = "nginx" }),
			{Engine: v1alpha1.EngineProvider, Hosts: []v1alpha1.Host{local("lb1")}}},
		"has hosts or":    {{}, with(at(good), func(s *v1alpha1.BalancerSpec) { s.Hosts = []v1alpha1.Host{local("lb1")} })},
		"larger than the": {with(at(good), func(s *v1alpha1.BalancerSpec) { s.Publish.MinHosts = 2 })},
		"are for hosts": {with(at(good), func(s *v1alpha1.BalancerSpec) {
			s.VirtualAddresses = v1alpha1.VirtualAddresses{Mode: v1alpha1.VRRP, VRRP: &v1alpha1.VRRPSettings{Interface: "eth0", VirtualRouterID: 5}}
		})},
		"lvs is for engine": {with(at(good), func(s *v1alpha1.BalancerSpec) { s.LVS = &v1alpha1.LVSSettings{} })},
	} {
		for _, spec := range specs {
			b := builder.Balancer("schema").With(func(b *v1alpha1.Balancer) { b.Spec = spec }).Manifest()
			err := kube.Create(t.Context(), b, client.DryRunAll)
			if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
				t.Errorf("%+v: %v; want %q", spec, err, says)
			}
		}
	}
}
