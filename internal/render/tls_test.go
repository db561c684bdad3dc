package render_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	certificates "github.com/external-lb/external-lb/internal/certificate"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/lvs"
	"github.com/external-lb/external-lb/internal/engine/nginx"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/wait"
)

// testKey is the same in every run: golden files name certificates by content.
var testKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

// pemOf is a certificate for a name that signs itself, and its key.
func pemOf(t testing.TB, name string, key crypto.Signer) (chain, text []byte) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func certificate(t testing.TB, name string) *lb.Certificate {
	t.Helper()
	c, err := certificates.Parse(pemOf(t, name, testKey))
	if err != nil {
		t.Fatal(err)
	}
	return made(c)
}

// made remembers a certificate, since Services name it only.
func made(c *lb.Certificate) *lb.Certificate {
	allMade.Store(c.Name(), c)
	return c
}

var allMade sync.Map // certificates, by name

func certificatesMade() map[string]*lb.Certificate {
	all := map[string]*lb.Certificate{}
	allMade.Range(func(name, c any) bool {
		all[name.(string)] = c.(*lb.Certificate)
		return true
	})
	return all
}

// terminating makes a Frontend that terminates TLS for web.example.
func terminating(t testing.TB, f engine.Frontend) engine.Frontend {
	return with(f, func(s *lb.Settings) { s.Certificate = certificate(t, "web.example").Name() })
}

// trusting is a client's view of the test certificates.
func trusting(t testing.TB, name string) *tls.Config {
	t.Helper()
	chain, _ := pemOf(t, name, testKey)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(chain)
	return &tls.Config{ServerName: name, RootCAs: roots}
}

// secured speaks TLS over a connection, after what is said before. It fails the
// test unless the certificate is the one for a name.
func (c client) secured(t testing.TB, to, name string, before ...string) (*tls.Conn, error) {
	t.Helper()
	conn, err := c.connect(t, "tcp", to)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	_, _ = io.WriteString(conn, strings.Join(before, "")) // what was closed already is seen when reading
	secure := tls.Client(conn, trusting(t, name))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return secure, secure.HandshakeContext(ctx)
}

func TestTerminatesTLS(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, empty, nodes := freeAddress(t, "127.1.1.10"), freeAddress(t, "127.1.1.10"), startNodes(t, 1)
		serve(t, terminating(t, tcp(at, nodes...)), terminating(t, tcp(empty)))
		conn, err := client("").secured(t, at, "web.example")
		if err != nil {
			t.Fatal(err)
		}
		if got := receive(conn); got != nodes[0] {
			t.Errorf("got %q, want the node", got)
		}
		fmt.Fprintln(conn, "hello")
		if got := receive(conn); got != "hello" {
			t.Errorf("got %q back", got)
		}
		// Whoever speaks no TLS is told nothing by a node.
		if got := client("").reaches(t, at, "hello, here I am, in plain text\r\n\r\n"); strings.Contains(got, nodes[0]) {
			t.Errorf("a client without TLS got %q", got)
		}
		if _, err := client("").secured(t, empty, "web.example"); err != nil {
			t.Errorf("without nodes: %v", err)
		}
	})
}

func TestTLSVersions(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, nodes := freeAddress(t, "127.1.1.11"), startNodes(t, 1)
		chain, key := pemOf(t, "web.example", rsaKey(t)) // with RSA, an old client would have something to speak
		cert, err := certificates.Parse(chain, key)
		if err != nil {
			t.Fatal(err)
		}
		serve(t, with(tcp(at, nodes...), func(s *lb.Settings) { s.Certificate = made(cert).Name() }))
		for version, wants := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
			conn, err := tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
			if (err == nil) != wants {
				t.Errorf("%s: %v", tls.VersionName(version), err)
			}
			if err == nil {
				conn.Close()
			}
		}
		weak := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_RSA_WITH_AES_256_CBC_SHA}}
		if conn, err := tls.Dial("tcp", at, weak); err == nil {
			conn.Close()
			t.Error("takes a cipher without forward secrecy")
		}
	})
}

var rsaKeyOnce = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func rsaKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := rsaKeyOnce()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestTLSResumes(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, nodes := freeAddress(t, "127.1.1.12"), startNodes(t, 1)
		serve(t, terminating(t, tcp(at, nodes...)))
		config := trusting(t, "web.example")
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		wait.True(t, "a session is resumed", func() bool {
			conn, err := tls.Dial("tcp", at, config)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			receive(conn) // tickets come with what is said first
			return conn.ConnectionState().DidResume
		})
	})
}

// PROXY headers go before TLS, and after it the client's own comes to the node.
func TestTLSWithPROXYHeadersAndSourceRanges(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, nodes := freeAddress(t, "127.1.1.13"), startNodes(t, 1)
		serve(t, terminating(t, with(from(accepting(tcp(at, nodes...)), "127.0.2.0/24", "203.0.113.0/24"), func(s *lb.Settings) { s.SendProxy = lb.ProxyV1 })))
		inside, outside := header("203.0.113.9:1234", at), header("198.51.100.9:1234", at)
		conn, err := client("127.0.2.1").secured(t, at, "web.example", inside)
		if err != nil {
			t.Fatal(err)
		}
		if got := receive(conn); got != nodes[0] {
			t.Errorf("got %q", got)
		}
		if got := receive(conn) + "\r\n"; got != inside {
			t.Errorf("the node got %q, want %q", got, inside)
		}
		for name, c := range map[string]struct {
			peer client
			say  string
		}{
			"client outside": {"127.0.2.1", outside}, "peer outside": {"127.0.3.1", inside}, "no header": {"127.0.2.1", ""},
		} {
			if conn, err := c.peer.secured(t, at, "web.example", c.say); err == nil && receive(conn) == nodes[0] {
				t.Errorf("%s: reached a node", name)
			}
		}
	})
}

// In HTTP mode pods are told that the client came over TLS, with HTTP/1.1 and 2.
func TestTLSInHTTPMode(t *testing.T) {
	onEngines(t, func(t onEngine) {
		if t.engine.Unsupported("mode=HTTP", lb.TCP) != "" {
			return // which the table of capabilities tells its users
		}
		at, n := freeAddress(t, "127.1.1.14"), startWeb(t)
		serve(t, terminating(t, with(tcp(at, n), inHTTP)))
		for _, major := range []int{1, 2} {
			transport := &http.Transport{TLSClientConfig: trusting(t, "web.example"), ForceAttemptHTTP2: major == 2}
			defer transport.CloseIdleConnections()
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+at+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("X-Forwarded-Proto", "http")
			response, err := transport.RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			var header http.Header
			err = json.NewDecoder(response.Body).Decode(&header)
			response.Body.Close()
			if err != nil || response.ProtoMajor != major || header.Get("X-Forwarded-Proto") != "https" {
				t.Errorf("HTTP/%d over HTTP/%d: %v, %v", major, response.ProtoMajor, header, err)
			}
		}
	})
}

// New connections get the new certificate, and no request fails meanwhile.
func TestCertificateIsRenewedUnderLoad(t *testing.T) {
	at, nodes := freeAddress(t, "127.1.1.15"), startNodes(t, 2)
	named := func(name string) engine.Frontend {
		return with(tcp(at, nodes...), func(s *lb.Settings) { s.Certificate = certificate(t, name).Name() })
	}
	d := serve(t, named("old.example"))
	var asked, renewed atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				conn, err := tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true})
				if err != nil {
					t.Errorf("request %d: %v", asked.Load(), err)
					return
				}
				if got := receive(conn); !slices.Contains(nodes, got) {
					t.Errorf("got %q", got)
				}
				if conn.ConnectionState().PeerCertificates[0].DNSNames[0] == "new.example" {
					renewed.Add(1)
				}
				asked.Add(1)
				conn.Close()
			}
		})
	}
	wait.True(t, "requests are answered", func() bool { return asked.Load() > 20 })
	d.reload(t, named("new.example"))
	wait.True(t, "the new certificate is served", func() bool { return renewed.Load() > 50 })
	close(stop)
	clients.Wait()
	if err := d.process.Signal(syscall.Signal(0)); err != nil {
		t.Error(err)
	}
}

// Certificates are files of their own, each once, and named by nothing but their content.
func TestCertificatesAreFilesOfTheSet(t *testing.T) {
	onEngines(t, func(t onEngine) {
		r := newRenderer(t)
		web, mail := terminating(t, tcp("192.0.2.1:443", "10.0.0.1:30443")), terminating(t, tcp("192.0.2.2:443", "10.0.0.1:30443"))
		other := with(tcp("192.0.2.3:443"), func(s *lb.Settings) { s.Certificate = certificate(t, "other.example").Name() })
		a, b, c := service(t, "a", web), service(t, "b", mail), service(t, "c", other)
		for _, step := range []struct {
			services []*engine.Service
			want     int
		}{{[]*engine.Service{a, b, c}, 2}, {[]*engine.Service{b, c}, 2}, {[]*engine.Service{b}, 1}, {nil, 0}} {
			set, _ := renderWith(t, r, config(step.services...))
			private := 0
			for f := range set.All() {
				if strings.Contains(string(f.Data), "PRIVATE") != f.Private || f.Private && f.Fragment {
					t.Errorf("%s: private %t", f.Path, f.Private)
				}
				if f.Private {
					private++
				}
			}
			if private != step.want {
				t.Errorf("%d certificates, want %d", private, step.want)
			}
		}
		if path := engine.CertificatePath(certificate(t, "web.example").Name()); !engine.Ours(path) || engine.Ours("certs/../x.pem") || engine.Ours("certs/mine.pem") {
			t.Errorf("whose is %s?", path)
		}
	})
}

func TestTLSThatCannotBe(t *testing.T) {
	for e, f := range map[*engine.Engine]engine.Frontend{
		nginx.Engine: terminating(t, udp("192.0.2.1:443", "10.0.0.1:30443")),
		lvs.Engine:   terminating(t, tcp("192.0.2.1:443", "10.0.0.1:30443")),
	} {
		t.Run(e.Name, func(t *testing.T) { wantRefused(onEngine{t, e}, service(t, "web", f)) })
	}
}

// What the daemons are given is printed from what was parsed, whatever surrounds it.
func TestDaemonsGetNothingRaw(t *testing.T) {
	onEngines(t, func(t onEngine) {
		chain, key := pemOf(t, "web.example", testKey)
		noise := []byte("}\nserver { listen 1; }\nglobal\n# ${VAR} \"\\\n-----BEGIN NONSENSE-----\nAAAA\n-----END NONSENSE-----\n")
		c, err := certificates.Parse(slices.Concat(noise, chain, noise, key), slices.Concat(noise, key, noise, chain))
		if err != nil {
			t.Fatal(err)
		}
		if clean := certificate(t, "web.example"); !bytes.Equal(c.PEM(), clean.PEM()) || c.Name() != clean.Name() {
			t.Errorf("not clean:\n%s", c.PEM())
		}
		_, conf := programs[t.engine].install(t, mustRender(t, config(service(t, "web", with(tcp("192.0.2.1:443"), func(s *lb.Settings) { s.Certificate = made(c).Name() })))))
		if err := check(t, conf); err != nil {
			t.Error(err)
		}
	})
}

// A daemon that finds no certificate where one should be refuses the file: the
// checks prove something.
func TestMissingCertificateIsRefused(t *testing.T) {
	onEngines(t, func(t onEngine) {
		set := mustRender(t, config(service(t, "web", terminating(t, tcp("192.0.2.1:443")))))
		_, conf := programs[t.engine].install(t, set.Without(engine.CertificatePath(certificate(t, "web.example").Name())))
		if err := check(t, conf); err == nil {
			t.Error("takes a file without its certificate")
		}
	})
}
