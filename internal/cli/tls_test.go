package cli

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const secured = `
apiVersion: external-lb.dev/v1alpha1
kind: Balancer
metadata: {name: edge}
spec:
  default: true
  hosts: [{name: lb1, address: 192.0.2.5, secretRef: {name: edge-ssh}}]
---
apiVersion: external-lb.dev/v1alpha1
kind: AddressPool
metadata: {name: public}
spec: {balancer: edge, addresses: [203.0.113.0/28]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, ports: [{port: 443, nodePort: 30443}]}
---
apiVersion: external-lb.dev/v1alpha1
kind: UpstreamPolicy
metadata: {name: web-tls}
spec:
  targetRefs: [{kind: Service, name: web}]
  tls: {secretRef: {name: web-tls}}
---
apiVersion: v1
kind: Node
metadata: {name: node1}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}
`

// secretManifests are the ways to write a Secret with a certificate. They share a key.
func secretManifests(t *testing.T, until time.Time) (manifests map[string]string, cert, key []byte) {
	t.Helper()
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(1e9, 0), NotAfter: until}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	chain, key := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	const head = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: web-tls}\ntype: kubernetes.io/tls\n"
	encode := base64.StdEncoding.EncodeToString
	return map[string]string{
		"data":       head + fmt.Sprintf("data: {tls.crt: %s, tls.key: %s}\n", encode(chain), encode(key)),
		"stringData": head + fmt.Sprintf("stringData: {tls.crt: %q, tls.key: %q}\n", chain, key),
	}, cert, key
}

// render runs the command on a manifest from stdin.
func renderManifest(t *testing.T, manifest string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Main(t.Context(), append([]string{"external-lb", "render", "-f", "-"}, args...), strings.NewReader(manifest), &out, &errs)
	return out.String(), errs.String(), code
}

func TestRenderNeverShowsAKey(t *testing.T) {
	manifests, cert, key := secretManifests(t, time.Now().AddDate(1, 0, 0))
	secret := strings.Split(string(key), "\n")[1]
	for name, manifest := range manifests {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := renderManifest(t, secured+manifest)
			if code != 0 || stderr != "" || !strings.Contains(stdout, "listen 203.0.113.0:443 ssl;") {
				t.Fatalf("exit code %d\n%s\n%s", code, stderr, stdout)
			}
			if want := fmt.Sprintf("SHA-256 fingerprint is %X.", sha256.Sum256(cert)); !strings.Contains(stdout, want) {
				t.Errorf("does not say which certificate, %s:\n%s", want, stdout)
			}
			dir := t.TempDir()
			if said, stderr, code := renderManifest(t, secured+manifest, "-o", dir); code != 0 || said+stderr != "" {
				t.Errorf("exit code %d\n%s%s", code, said, stderr)
			}
			files, err := filepath.Glob(filepath.Join(dir, "certs", "*.pem"))
			if err != nil || len(files) != 1 {
				t.Fatalf("files %q, %v", files, err)
			}
			written, err := os.ReadFile(files[0])
			if err != nil || strings.Contains(stdout+string(written), secret) {
				t.Errorf("%v, or the key is shown:\n%s\n%s", err, stdout, written)
			}
			// Without TLS, the certificate of an earlier rendering goes.
			plain, _, _ := strings.Cut(secured, "---\napiVersion: external-lb.dev/v1alpha1\nkind: UpstreamPolicy")
			if _, stderr, code := renderManifest(t, plain+"---\napiVersion: v1\nkind: Node\nmetadata: {name: node1}\n", "-o", dir); code != 0 {
				t.Errorf("exit code %d\n%s", code, stderr)
			}
			if _, err := os.Stat(files[0]); !os.IsNotExist(err) {
				t.Errorf("%s is still there: %v", files[0], err)
			}
		})
	}
}

func TestRenderTellsOfCertificates(t *testing.T) {
	manifests, _, key := secretManifests(t, time.Unix(1e9+1, 0))
	expiring, _, _ := secretManifests(t, time.Now().Add(time.Hour))
	for name, tc := range map[string]struct {
		secret, stdout, stderr string
		code                   int
	}{
		"expired": {manifests["data"], "ssl_certificate ", "CertificateExpired", 0},
		"expires": {expiring["data"], "ssl_certificate ", "CertificateExpiring", 0},
		"missing": {"", "main.conf", "there is no Secret web-tls", 1},
		"broken":  {strings.Replace(manifests["data"], "tls.crt", "tls.pem", 1), "main.conf", "tls.crt has no certificate", 1},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := renderManifest(t, secured+tc.secret)
			if code != tc.code || !strings.Contains(stdout, tc.stdout) || !strings.Contains(stderr, tc.stderr) {
				t.Errorf("exit code %d\n%s\n%s", code, stderr, stdout)
			}
			if secret := strings.Split(string(key), "\n")[1]; strings.Contains(stdout+stderr, secret) {
				t.Error("shows the key")
			}
		})
	}
}
