package ui

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/internal/ui/page"
	"github.com/external-lb/external-lb/test/browser"
	"github.com/external-lb/external-lb/test/builder"
)

// serveObjects shows objects without a cluster.
func serveObjects(t *testing.T, o page.Objects) (h *hub, url string) {
	t.Helper()
	items, err := page.Of(o)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	h = newHub()
	h.publish(ofObjects, items)
	h.tell(connection{Server: "https://192.0.2.1:6443", Loaded: true})
	s := newServer()
	s.hub, s.meant = h, onPort(listener.Addr().(*net.TCPAddr).Port)
	ended := make(chan error, 1)
	go func() { ended <- serve(t.Context(), listener, s, nil) }()
	t.Cleanup(func() { // the context has ended
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return h, fmt.Sprintf("http://%s/secret/", listener.Addr())
}

// many Services of one Balancer, in ten namespaces, the last of which is hostile.
func many(count int, hostile string) (o page.Objects) {
	b := builder.Balancer("edge").Hosts(v1alpha1.Host{Name: "lb1", Address: "192.0.2.5"}).Obj()
	b.Status.Hosts = []v1alpha1.HostStatus{{Name: "lb1", State: v1alpha1.HostFailed, Message: hostile}}
	o.Balancers = append(o.Balancers, b)
	o.Pools = append(o.Pools, *builder.AddressPool("public", "10.0.0.0/16").Obj())
	o.Nodes = append(o.Nodes, builder.Node("node1").IP("10.1.0.1").Obj())
	for i := range count {
		svc := builder.Service(fmt.Sprint("team-", i%10), fmt.Sprint("web-", i)).Class("external-lb.dev/edge").Port(int32(1 + i%2000)).Obj()
		svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
		address := netip.AddrFrom4([4]byte{10, 0, byte(i / 256), byte(i % 256)})
		svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address.String()}}
		o.Services = append(o.Services, record.Record{Holders: []string{"edge"}, Carrier: "edge", Addresses: []netip.Addr{address}}.Write(svc))
	}
	last := o.Services[count-1]
	last.Status.Conditions = append(last.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionServiceProgrammed, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonRefused, Message: hostile,
	})
	o.Events = append(o.Events, &corev1.Event{
		InvolvedObject: corev1.ObjectReference{UID: last.UID}, Type: "Warning", Reason: hostile, Message: hostile,
	})
	return o
}

const script = `</script><img src=x onerror="document.title='taken'"><script>document.title='taken'</script>`

func asJSON(text string) string {
	data, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// In a real browser, by keys alone: 2,000 Services are searched, one is opened and closed
// again; what others wrote is shown as they wrote it, and is never more than text.
func TestThePageInABrowser(t *testing.T) {
	shown := many(2000, script)
	h, url := serveObjects(t, shown)
	b := browser.Open(t)
	b.Go(url)
	b.Until(`return document.querySelector('#connection')?.innerText.includes('follows https://192.0.2.1:6443') ?? false`)
	b.Until(`return document.querySelector('#services small').innerText === '2000 of 2000'`)

	b.Press("/")
	var took float64
	b.Run(`const input = document.activeElement; const began = performance.now();
		input.value = 'web-1999'; input.dispatchEvent(new Event('input', {bubbles: true}));
		return new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(performance.now() - began))))`, &took)
	b.Until(`return document.querySelectorAll('[data-service]').length === 1`)
	t.Logf("a search among 2000 Services took the browser %.0f ms", took)

	b.Run(`document.querySelector('[data-service] button').focus()`, nil)
	b.Press(browser.Enter)
	b.Until(`return document.activeElement.id === 'story-title'`)
	b.Until(`return document.querySelector('#story .timeline').innerText.includes(` + asJSON(script) + `)`)
	b.Until(`return document.querySelector('#wrong').innerText.includes(` + asJSON(script) + `)`)
	b.Until(`return document.querySelectorAll('img, aside script').length === 0 && document.title === 'external-lb'`)
	b.Press(browser.Escape)
	b.Until(`return document.querySelector('#story') === null && document.activeElement.dataset.key === 'service/team-9/web-1999'`)

	// What a screen reader says, but for roles that Chromium calls now so and now so.
	for selector, want := range map[string]string{
		"#search":                     "searchbox Search",
		"#wrong":                      "region What is wrong",
		"#wrong [role=status]":        "status",
		"[data-service] button":       "button web-1999",
		"[data-pool=public] .map":     " Map of AddressPool public, IPv4: in use are 2000",
		"#services summary":           " team-9 1 Service, 1 wrong",
		"section.balancer":            "region Balancer edge",
		"header input[type=checkbox]": "checkbox only what is wrong",
	} {
		if got := strings.TrimSpace(b.Heard(selector)); !strings.HasSuffix(got, want) {
			t.Errorf("a screen reader says of %s %q, want %q", selector, got, want)
		}
	}
	b.Until(`return document.querySelector('#wrong [role=status]').textContent === '3 problems'`)

	b.Until(`return document.querySelectorAll('[data-pool=public] .holders li').length === 100 &&
		document.querySelector('[data-pool=public]').textContent.includes('1900 addresses are not shown') ||
		document.querySelector('[data-pool=public] details').textContent.slice(-100)`)

	// A namespace that is closed and opened again has its Services again.
	for _, rows := range []int{0, 1} {
		b.Run(`document.querySelector('#services summary').click()`, nil)
		b.Until(fmt.Sprintf(`return document.querySelectorAll('[data-service]').length === %d`, rows))
	}
	b.Run(`document.querySelector('[data-service] button').focus()`, nil)

	// What is new appears where it belongs, and takes no focus away.
	shown.Services = slices.Insert(shown.Services, 0, builder.Service("team-9", "web-1999-b").Class("external-lb.dev/edge").Port(80).Obj())
	items, err := page.Of(shown)
	if err != nil {
		t.Fatal(err)
	}
	h.publish(ofObjects, items)
	b.Until(`return document.querySelectorAll('[data-service]').length === 2 &&
		document.activeElement.dataset.key === 'service/team-9/web-1999'`)
	h.tell(connection{Server: "https://192.0.2.1:6443", Loaded: true, Problem: "it does not answer"})
	b.Until(`return document.querySelector('#connection').innerText.includes('may be old: it does not answer')`)
	if err := b.Complaints(); err != nil {
		t.Error(err)
	}
}
