package host

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/nginx"
	"github.com/external-lb/external-lb/internal/fileset"
)

// certificateFile is a private file with a certificate for a name and its key.
func certificateFile(t testing.TB, name string) fileset.File {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return private(t, append(
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...))
}

func private(t testing.TB, data []byte) fileset.File {
	t.Helper()
	sum := sha256.Sum256(data)
	f, err := fileset.NewPrivate("certs/"+hex.EncodeToString(sum[:16])+".pem", data)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// secure is a fragment that carries, or says, a text over TLS.
func (b *box) secure(name, text, cert string, at netip.AddrPort) fileset.File {
	if _, isNginx := b.unit.daemon.(*nginx.Daemon); isNginx {
		return fragment(b, name, fmt.Sprintf("server { listen %s ssl; ssl_certificate external-lb/%s; ssl_certificate_key external-lb/%[2]s; return %q; }\n", at, cert, text), at)
	}
	return fragment(b, name, fmt.Sprintf("listen %s\n    bind %s ssl crt \"${EXTERNAL_LB_SET}/%s\"\n    server s %s\n", name, at, cert, sayer(b, text)), at)
}

// plain is a fragment that carries, or says, a text as it is.
func (b *box) plain(name, text string, at netip.AddrPort) fileset.File {
	if _, isNginx := b.unit.daemon.(*nginx.Daemon); isNginx {
		return service(b, name, text, at)
	}
	return carried(b, name, text, at)
}

func (b *box) set(files ...fileset.File) *fileset.Set {
	if _, isNginx := b.unit.daemon.(*nginx.Daemon); isNginx {
		return set(b, files...)
	}
	return haproxySet(b, files...)
}

// served is the name in the certificate that an address shows, and what it says.
func (b *box) served(at netip.AddrPort) (name, text string) {
	b.Helper()
	c, err := tls.Dial("tcp", at.String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	said, _ := io.ReadAll(c) // what has come is what counts
	return c.ConnectionState().PeerCertificates[0].DNSNames[0], string(said)
}

// onlyOwnersRead wants every file with a key below the machine's directory to be
// readable by its owner alone, and no key to be anywhere else.
func (b *box) onlyOwnersRead() (found int) {
	b.Helper()
	err := filepath.WalkDir(b.agent.settings.Root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil || !strings.Contains(string(data), "PRIVATE KEY") {
			return err
		}
		found++
		info, err := d.Info()
		if err == nil && info.Mode().Perm() != 0o600 {
			b.Errorf("%s has the mode %v", p, info.Mode())
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return found
}

func onBoxes(t *testing.T, test func(b *box)) {
	t.Run("nginx", func(t *testing.T) { test(newBox(t)) })
	t.Run("HAProxy", func(t *testing.T) { test(newHAProxyBox(t)) })
}

// Whatever a delivery does, at no step may others read a key.
func TestPrivateFilesAreReadByNobodyElse(t *testing.T) {
	onBoxes(t, func(b *box) {
		old, renewed := certificateFile(b, "old.example"), certificateFile(b, "new.example")
		web, mail := local(b), local(b)
		seen := 0
		b.unit.at = func(string) { seen = max(seen, b.onlyOwnersRead()) }
		b.apply(b.set(old, b.secure("web", "one", old.Path, web)))
		if name, text := b.served(web); name != "old.example" || text != "one" {
			b.Errorf("served %q with the certificate of %q", text, name)
		}
		// The file is linked into the next generation, and stays in the one before.
		b.apply(b.set(old, b.secure("web", "one", old.Path, web), b.plain("mail", "mail", mail)))
		b.apply(b.set(renewed, b.secure("web", "one", renewed.Path, web), b.plain("mail", "mail", mail)))
		if name, _ := b.served(web); name != "new.example" {
			b.Errorf("served with the certificate of %q", name)
		}
		if now := b.onlyOwnersRead(); seen < 2 || now != 2 {
			b.Errorf("saw %d files with a key during the deliveries and %d now", seen, now)
		}
	})
}

// A key that somebody has made readable for others is delivered again.
func TestExposedPrivateFileIsReplaced(t *testing.T) {
	onBoxes(t, func(b *box) {
		cert, web := certificateFile(b, "web.example"), local(b)
		want := b.set(cert, b.secure("web", "web", cert.Path, web))
		b.apply(want)
		if err := os.Chmod(filepath.Join(b.unit.dir, engine.LiveLink, cert.Path), 0o644); err != nil {
			b.Fatal(err)
		}
		if b.status().proved {
			b.Error("the status says that all is well")
		}
		b.apply(want)
		if b.onlyOwnersRead() == 0 {
			b.Error("there is no key")
		}
	})
}

// A certificate that the daemon refuses costs those that name it, and nobody else.
func TestRefusedCertificate(t *testing.T) {
	onBoxes(t, func(b *box) {
		good, bad := certificateFile(b, "web.example"), private(b, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
		web, other, third, plain := local(b), local(b), local(b), local(b)
		out := b.apply(b.set(good, bad,
			b.secure("a-bad", "bad", bad.Path, other), b.secure("web", "web", good.Path, web),
			b.secure("z-bad", "bad", bad.Path, third), b.plain("plain", "plain", plain)))
		if got := strings.Join(out.paths(), " "); got != "services/a-bad.conf services/z-bad.conf" {
			b.Errorf("refused %q", got)
		}
		for _, r := range out.Refused {
			if strings.Contains(r.Reason, b.unit.dir) || !strings.Contains(strings.ToLower(r.Reason), "certificate") {
				b.Errorf("%s: %s", r.Path, r.Reason)
			}
		}
		if name, text := b.served(web); name != "web.example" || text != "web" {
			b.Errorf("served %q with the certificate of %q", text, name)
		}
		b.says(plain, "plain")
	})
}

// A host that was prepared before there were certificates says what to do.
func TestNginxWithoutLinks(t *testing.T) {
	b := newBox(t)
	for link := range b.nginx().Links() {
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
	}
	cert, web, plain := certificateFile(t, "web.example"), local(t), local(t)
	out := b.apply(b.set(cert, b.secure("web", "web", cert.Path, web), b.plain("plain", "plain", plain)))
	if len(out.Refused) != 1 || !strings.Contains(out.Refused[0].Reason, "external-lb host install") {
		t.Errorf("refused: %+v", out.Refused)
	}
	b.says(plain, "plain")
}
