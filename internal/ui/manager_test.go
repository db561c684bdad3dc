package ui

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/ui/page"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

// managed is a page of a manager on a real API server.
type managed struct {
	*testing.T
	cluster *cluster.Cluster
	config  *rest.Config
	kube    client.Client
	web     *http.Client
	reviews atomic.Int32 // requests to the API server about who looks
	asked   atomic.Int32 // for traffic
	silent  atomic.Bool
}

// count reviews.
func (m *managed) count(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if strings.Contains(r.URL.Path, "reviews") {
			m.reviews.Add(1)
		}
		return next.RoundTrip(r)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func newManaged(t *testing.T) *managed {
	m := &managed{T: t, cluster: cluster.New(t, cluster.Options{ControlPlaneOnly: true})}
	scheme := runtime.NewScheme()
	must(t, errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)))
	m.config = m.cluster.RESTConfig()
	m.config.QPS = -1
	m.config.Wrap(m.count)
	_, err := envtest.InstallCRDs(m.config, envtest.CRDInstallOptions{Paths: []string{"../../config/crd/bases"}, ErrorIfPathMissing: true})
	must(t, err)
	m.kube, err = client.New(m.config, client.Options{Scheme: scheme})
	must(t, err)
	m.web = &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(m.web.CloseIdleConnections)
	return m
}

// serve a page until the test ends, and say where.
func (m *managed) serve(o Managed, change func(*Page)) string {
	m.Helper()
	ctx, cancel := context.WithCancel(m.Context())
	c, err := cache.New(m.config, cache.Options{Scheme: m.kube.Scheme()})
	must(m.T, err)
	p, err := NewPage(o, Sources{
		Config: m.config, Cache: c, Server: m.kube, Log: logr.Discard(),
		Name: func() string { return "the manager m1, which leads" }, Traffic: m.traffic,
	})
	must(m.T, err)
	if change != nil {
		change(p)
	}
	ended := make(chan error, 2)
	go func() { ended <- c.Start(ctx) }()
	go func() { ended <- p.Start(ctx) }()
	m.Cleanup(func() {
		cancel()
		must(m.T, errors.Join(<-ended, <-ended))
	})
	return p.Address().String()
}

func (m *managed) traffic(context.Context) ([]page.Look, error) {
	m.asked.Add(1)
	if m.silent.Load() {
		return nil, errors.New("this manager does not lead")
	}
	return []page.Look{{Balancer: "edge", Host: "lb1", At: time.Now()}}, nil
}

// get a path, with a token if there is one.
func (m *managed) get(url, token string, change ...func(*http.Request)) *http.Response {
	m.Helper()
	r, err := http.NewRequestWithContext(m.Context(), http.MethodGet, url, nil)
	must(m.T, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for _, c := range change {
		c(r)
	}
	answer, err := m.web.Do(r)
	must(m.T, err)
	m.Cleanup(func() { answer.Body.Close() })
	return answer
}

// code of an answer that is not read.
func (m *managed) code(url, token string, change ...func(*http.Request)) int {
	m.Helper()
	answer := m.get(url, token, change...)
	answer.Body.Close()
	return answer.StatusCode
}

func (m *managed) answers(want int, url, token string, change ...func(*http.Request)) {
	m.Helper()
	if code := m.code(url, token, change...); code != want {
		m.Errorf("%s is answered with %d, want %d", url, code, want)
	}
}

// until a path is answered so.
func (m *managed) until(want int, url, token string) {
	m.Helper()
	wait.For(m.T, func(context.Context) error {
		if code := m.code(url, token); code != want {
			return fmt.Errorf("%s is answered with %d, want %d", url, code, want)
		}
		return nil
	})
}

// token of an account, which is made.
func (m *managed) token(name string) string {
	m.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	must(m.T, m.kube.Create(m.Context(), account))
	request := &authenticationv1.TokenRequest{}
	must(m.T, m.kube.SubResource("token").Create(m.Context(), account, request))
	return request.Status.Token
}

// allow accounts to look, by the role that is shipped.
func (m *managed) allow(names ...string) *rbacv1.ClusterRoleBinding {
	m.Helper()
	text, err := os.ReadFile("../../config/components/ui-service/viewer_role.yaml")
	must(m.T, err)
	role := &rbacv1.ClusterRole{}
	must(m.T, yaml.UnmarshalStrict(text, role))
	must(m.T, client.IgnoreAlreadyExists(m.kube.Create(m.Context(), role)))
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "viewers"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
	}
	for _, name := range names {
		binding.Subjects = append(binding.Subjects, rbacv1.Subject{Kind: "ServiceAccount", Namespace: "default", Name: name})
	}
	must(m.T, m.kube.Create(m.Context(), binding))
	return binding
}

// listen to events, over an answer.
func (m *managed) listen(answer *http.Response) *reader {
	m.Helper()
	if answer.StatusCode != http.StatusOK {
		m.Fatalf("the events are answered with %s", answer.Status)
	}
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	return &reader{m.T, lines, map[string]json.RawMessage{}}
}

// On the loopback whoever reaches it may look, under its names. What the caches have is shown,
// and what changes; hosts are asked while somebody looks.
func TestAManagersPageOnTheLoopback(t *testing.T) {
	m := newManaged(t)
	at := m.serve(Managed{Address: "127.0.0.1:0"}, nil)
	url := "http://" + at + Path + "/"
	m.answers(http.StatusOK, url, "")
	m.answers(http.StatusOK, url+"app.mjs", "")
	m.answers(http.StatusFound, "http://"+at+"/", "")
	m.answers(http.StatusNotFound, "http://"+at+"/metrics", "")
	forwarded := func(r *http.Request) { r.Host = "localhost:9999" }
	m.answers(http.StatusOK, url, "", forwarded)
	for _, host := range []string{"attacker.example", "attacker.example:8082", "localhost.attacker.example", "10.1.2.3:8082", "external-lb-ui"} {
		m.answers(http.StatusMisdirectedRequest, url, "", func(r *http.Request) { r.Host = host })
	}
	for _, site := range []string{"cross-site", "same-site"} {
		m.answers(http.StatusForbidden, url+"events", "", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", site) })
	}
	m.answers(http.StatusMethodNotAllowed, url, "", func(r *http.Request) { r.Method = http.MethodPost })
	if m.asked.Load() != 0 || m.reviews.Load() != 0 {
		t.Errorf("nobody looks, and hosts were asked %d times, the API server %d times", m.asked.Load(), m.reviews.Load())
	}

	must(t, m.kube.Create(t.Context(), builder.Balancer("edge").Hosts(v1alpha1.Host{Name: "lb1", Local: &v1alpha1.LocalHost{}}).Manifest()))
	b := m.listen(m.get(url+"events", ""))
	b.until("balancer/edge", "the controller has not seen it yet")
	b.until(clusterKey, `the manager m1, which leads","loaded":true`)
	b.until("host/edge/lb1", `"host":"lb1"`)
	svc := builder.Service("default", "web").Class("external-lb.dev/edge").PortOf(corev1.ProtocolTCP, 80, 0).Manifest()
	must(t, m.kube.Create(t.Context(), svc))
	b.until("service/default/web", "80/TCP")
	m.silent.Store(true)
	b.until(silenceKey, "this manager does not lead")
	must(t, m.cluster.StopAPIServer())
	b.until(clusterKey, "asking the API server")
	if b.items["service/default/web"] == nil {
		t.Error("what was known is no longer shown")
	}
}

// Elsewhere each request needs a token, of a user who may look. Nothing is told without.
func TestAManagersPageForOthers(t *testing.T) {
	m := newManaged(t)
	at := m.serve(Managed{Address: ":0", Names: []string{"lb.example.com"}}, func(p *Page) {
		p.beat, p.access.rememberYes, p.access.rememberNo = 50*time.Millisecond, 100*time.Millisecond, 100*time.Millisecond
	})
	_, port, _ := strings.Cut(at, "]")
	url := "https://127.0.0.1" + port + Path + "/"
	viewer, stranger := m.token("viewer"), m.token("stranger")
	binding := m.allow("viewer")
	for _, path := range []string{"", "app.mjs", "events"} {
		m.answers(http.StatusUnauthorized, url+path, "")
		m.answers(http.StatusUnauthorized, url+path, "guess")
		m.answers(http.StatusForbidden, url+path, stranger)
		m.answers(http.StatusUnauthorized, url+path, "", func(r *http.Request) { r.SetBasicAuth("viewer", viewer) })
		m.answers(http.StatusUnauthorized, url+path+"?token="+viewer, "")
	}
	m.until(http.StatusOK, url, viewer) // once the binding is in force
	m.answers(http.StatusOK, url, viewer, func(r *http.Request) { r.Host = "lb.example.com" })
	m.answers(http.StatusMisdirectedRequest, url, viewer, func(r *http.Request) { r.Host = "attacker.example" })
	m.answers(http.StatusForbidden, url+"events", viewer, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") })
	m.answers(http.StatusBadRequest, "http://127.0.0.1"+port+Path+"/", viewer) // without TLS

	// Who may no longer look sees no more of what they had opened.
	b := m.listen(m.get(url+"events", viewer))
	b.until(clusterKey, `"loaded":true`)
	must(t, m.kube.Delete(t.Context(), binding))
	for b.lines.Scan() { // until it ends, else the test does
	}
	m.answers(http.StatusForbidden, url+"events", viewer)
}

// Many streams, and many tokens, harm neither others nor the API server.
func TestAManagersPageIsBounded(t *testing.T) {
	m := newManaged(t)
	at := m.serve(Managed{Address: ":0"}, func(p *Page) { p.places = newPlaces(5, 3) })
	_, port, _ := strings.Cut(at, "]")
	url := "https://127.0.0.1" + port + Path + "/"
	greedy, other := m.token("greedy"), m.token("other")
	m.allow("greedy", "other")
	for _, token := range []string{greedy, other} {
		m.until(http.StatusOK, url, token) // once the binding is in force
	}
	for range 3 {
		m.listen(m.get(url+"events", greedy))
	}
	m.answers(http.StatusServiceUnavailable, url+"events", greedy)
	m.listen(m.get(url+"events", other))
	m.listen(m.get(url+"events", other))
	m.answers(http.StatusServiceUnavailable, url+"events", other) // of five in all

	before, refused := m.reviews.Load(), 0
	for i := range 200 {
		switch code := m.code(url, fmt.Sprint("guess-", i)); code {
		case http.StatusTooManyRequests:
			refused++
		case http.StatusUnauthorized:
		default:
			t.Errorf("a guess is answered with %d", code)
		}
		if i == 100 {
			m.answers(http.StatusOK, url, greedy) // whom it knows
		}
	}
	if asked := m.reviews.Load() - before; refused == 0 || asked+int32(refused) > 201 {
		t.Errorf("of 200 guesses the API server was asked about %d, and %d were refused at once", asked, refused)
	}
	for range maxOfAddress { // whoever only connects leaves room to other addresses
		c, err := net.Dial("tcp", "127.0.0.1"+port)
		must(t, err)
		t.Cleanup(func() { c.Close() })
	}
	beside := &http.Transport{
		DialContext:     (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	t.Cleanup(m.web.Transport.(*http.Transport).CloseIdleConnections)
	m.web.Transport = beside
	m.answers(http.StatusOK, url, greedy)

	must(t, m.cluster.StopAPIServer())
	m.until(http.StatusServiceUnavailable, url, "another") // a moment later, since guesses came from here
	m.answers(http.StatusOK, url, greedy)
}

// An address that cannot be meant, or a certificate that is not there, is an error that says
// so, and nothing listens.
func TestAManagersPageSaysWhatItLacks(t *testing.T) {
	sources := Sources{Config: &rest.Config{Host: "https://192.0.2.1"}, Log: logr.Discard()}
	for address, want := range map[string]string{"8082": "want HOST:PORT", ":none": "serving the page", "192.0.2.1:8082": "serving the page"} {
		if _, err := NewPage(Managed{Address: address}, sources); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
	}
	if _, err := NewPage(Managed{Address: ":0", CertDir: t.TempDir()}, sources); err == nil || !strings.Contains(err.Error(), "the page's certificate") {
		t.Errorf("without a certificate it says %v", err)
	}
	for address, want := range map[string]bool{"127.0.0.1:1": false, "127.9.9.9:1": false, "[::1]:1": false, "localhost:1": false,
		":1": true, "0.0.0.0:1": true, "[::]:1": true, "10.0.0.1:1": true, "localhost.example.com:1": true, "[::ffff:10.0.0.1]:1": true} {
		if got, err := isShared(address); err != nil || got != want {
			t.Errorf("%s is shared: %v, %v", address, got, err)
		}
	}
}
