package lb

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// certify makes a certificate for a key, signed by another or by itself.
func certify(key crypto.Signer, change ...func(*x509.Certificate)) []byte {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"web.example"}, NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(2e9, 0)}
	for _, c := range change {
		c(template)
	}
	return must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
}

func asPEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func pkcs8(key any) []byte { return asPEM("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key))) }

var (
	p256 = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	rsa2 = must(rsa.GenerateKey(rand.Reader, 2048))
)

func TestCertificatesAreRead(t *testing.T) {
	ed := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	issuer := asPEM("CERTIFICATE", certify(ed))
	crlf := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) }
	for name, tc := range map[string]struct {
		key        crypto.Signer
		chain, pem []byte // of the key
		count      int
	}{
		"ECDSA, PKCS #8":      {p256, nil, pkcs8(p256), 1},
		"ECDSA, SEC 1":        {p256, nil, slices.Concat(asPEM("EC PARAMETERS", []byte{6}), asPEM("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(p256)))), 1},
		"RSA, PKCS #8":        {rsa2, nil, pkcs8(rsa2), 1},
		"RSA, PKCS #1":        {rsa2, nil, asPEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsa2)), 1},
		"Ed25519":             {ed, nil, pkcs8(ed), 1},
		"with its issuer":     {p256, issuer, pkcs8(p256), 2},
		"lines as on Windows": {p256, crlf(issuer), crlf(pkcs8(p256)), 2},
		"the key in both":     {p256, slices.Concat(pkcs8(rsa2), issuer), pkcs8(p256), 2},
		"with comments":       {p256, slices.Concat([]byte("# }\nserver { listen 1; }\n"), issuer, []byte("${HOME}\n")), slices.Concat([]byte("global\n\tstats\n"), pkcs8(p256)), 2},
		"with unknown blocks": {p256, slices.Concat(asPEM("X509 CRL", []byte("x")), issuer), slices.Concat(asPEM("DH PARAMETERS", []byte("x")), pkcs8(p256)), 2},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := ParseCertificate(slices.Concat(asPEM("CERTIFICATE", certify(tc.key)), tc.chain), tc.pem)
			if err != nil {
				t.Fatal(err)
			}
			pair, err := tls.X509KeyPair(c.PEM(), c.PEM())
			if err != nil || len(pair.Certificate) != tc.count {
				t.Errorf("%d certificates, %v", len(pair.Certificate), err)
			}
			onlyBlocks(t, c.PEM(), tc.count)
			if !c.NotBefore.Equal(time.Unix(1e9, 0)) || !c.NotAfter.Equal(time.Unix(2e9, 0)) || len(c.Name()) != 32 {
				t.Errorf("%v to %v, %s", c.NotBefore, c.NotAfter, c.Name())
			}
		})
	}
}

// onlyBlocks wants a text to be certificates and then a key, printed by us.
func onlyBlocks(t *testing.T, text []byte, certificates int) {
	t.Helper()
	var again []byte
	kinds := ""
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		kinds += block.Type + ","
		again = append(again, asPEM(block.Type, block.Bytes)...)
	}
	if want := strings.Repeat("CERTIFICATE,", certificates) + "PRIVATE KEY,"; kinds != want || !bytes.Equal(again, text) {
		t.Errorf("blocks %s, want %s:\n%s", kinds, want, text)
	}
}

func TestCertificatesThatAreRefused(t *testing.T) {
	good := asPEM("CERTIFICATE", certify(p256))
	p224 := must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
	headed := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}, Bytes: []byte("x")})
	cut := slices.Clone(good)[:len(good)/2]
	for name, tc := range map[string]struct {
		chain, key []byte
		want       string
	}{
		"nothing":               {nil, nil, "tls.crt has no certificate in PEM"},
		"DER":                   {certify(p256), pkcs8(p256), "tls.crt has no certificate in PEM"},
		"cut off":               {cut, pkcs8(p256), "tls.crt has no certificate in PEM"},
		"nonsense in PEM":       {asPEM("CERTIFICATE", []byte("nonsense")), pkcs8(p256), "certificate 1 in tls.crt cannot be read"},
		"nonsense behind":       {slices.Concat(good, asPEM("CERTIFICATE", []byte("nonsense"))), pkcs8(p256), "certificate 2 in tls.crt cannot be read"},
		"more in the block":     {asPEM("CERTIFICATE", append(certify(p256), 0)), pkcs8(p256), "certificate 1 in tls.crt cannot be read"},
		"no key":                {good, nil, "tls.key has no private key in PEM"},
		"a certificate for one": {good, good, "tls.key has no private key in PEM"},
		"encrypted":             {good, asPEM("ENCRYPTED PRIVATE KEY", []byte("x")), "is encrypted"},
		"encrypted, the older":  {good, headed, "is encrypted"},
		"a key of nonsense":     {good, asPEM("PRIVATE KEY", []byte("x")), "the key in tls.key cannot be read"},
		"somebody else's key":   {good, pkcs8(rsa2), "tls.key is not the key of the first certificate"},
		"issuer first":          {slices.Concat(asPEM("CERTIFICATE", certify(rsa2)), good), pkcs8(p256), "tls.key is not the key of the first certificate"},
		"a curve of the past":   {asPEM("CERTIFICATE", certify(p224)), pkcs8(p224), "P-224"},
		"huge":                  {bytes.Repeat([]byte("A"), maxPEM+1), pkcs8(p256), "tls.crt has more than"},
		"huge key":              {good, bytes.Repeat([]byte("A"), maxPEM+1), "tls.key has more than"},
		"endless":               {bytes.Repeat(good, 17), pkcs8(p256), "more than 16 certificates"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := ParseCertificate(tc.chain, tc.key)
			if c != nil || err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, %v; want %q", c, err, tc.want)
			}
			if text := err.Error(); len(text) > 400 || strings.ContainsAny(text, "\n\r") {
				t.Errorf("not fit for an event: %q", text)
			}
		})
	}
}

// OpenSSL would refuse it, and with it the file that names it.
func TestWeakCertificates(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	weak := must(rsa.GenerateKey(rand.Reader, 1024))
	if _, err := ParseCertificate(asPEM("CERTIFICATE", certify(weak)), pkcs8(weak)); err == nil || !strings.Contains(err.Error(), "1024 bits") {
		t.Errorf("a short key: %v", err)
	}
	old := &x509.Certificate{SignatureAlgorithm: x509.SHA1WithRSA, RawIssuer: []byte("a"), RawSubject: []byte("b")}
	if strongSignature(old) == nil {
		t.Error("takes SHA-1")
	}
	if old.RawSubject = []byte("a"); strongSignature(old) != nil {
		t.Error("a root that signs itself is not looked at by anybody")
	}
}

func TestNamesOfCertificatesAreTheirContent(t *testing.T) {
	chain := asPEM("CERTIFICATE", certify(p256))
	one, same := must(ParseCertificate(chain, pkcs8(p256))), must(ParseCertificate(append([]byte("#\n"), chain...), pkcs8(p256)))
	other := must(ParseCertificate(slices.Concat(chain, asPEM("CERTIFICATE", certify(rsa2))), pkcs8(p256)))
	var none *Certificate
	if !one.Equal(same) || one.Equal(other) || one.Equal(none) || none.Equal(one) || !none.Equal(nil) {
		t.Error("equal is what is not the same, or the other way round")
	}
}

// However a certificate gets into a text, its key does not.
func TestCertificatesNeverPrintTheirKey(t *testing.T) {
	c := must(ParseCertificate(asPEM("CERTIFICATE", certify(p256)), pkcs8(p256)))
	set := Settings{Certificate: c}
	for _, text := range []string{
		fmt.Sprint(c), fmt.Sprintf("%v %+v %#v %s %q %x", c, c, c, c, c, c), fmt.Sprintf("%v %+v %#v", set, set, set),
		fmt.Sprintf("%v", []Settings{set}), string(must(json.Marshal(set))),
	} {
		if strings.Contains(text, "PRIVATE") || strings.Contains(text, fmt.Sprintf("%x", "PRIVATE")) || strings.Contains(text, "80, 82, 73") {
			t.Errorf("prints %s", text)
		}
	}
	if got := fmt.Sprint((*Certificate)(nil)); got != "none" {
		t.Errorf("none is printed as %q", got)
	}
}

func FuzzParseCertificate(f *testing.F) {
	f.Add(asPEM("CERTIFICATE", certify(p256)), pkcs8(p256))
	f.Add(slices.Concat(asPEM("CERTIFICATE", certify(rsa2)), asPEM("CERTIFICATE", certify(p256))), asPEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsa2)))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n}\n-----END CERTIFICATE-----"), []byte("-----BEGIN PRIVATE KEY-----"))
	f.Fuzz(func(t *testing.T, chain, key []byte) {
		c, err := ParseCertificate(chain, key)
		if err != nil {
			return
		}
		if _, err := tls.X509KeyPair(c.PEM(), c.PEM()); err != nil {
			t.Error(err)
		}
		again, err := ParseCertificate(c.PEM(), c.PEM())
		if err != nil || !again.Equal(c) {
			t.Errorf("reading what was printed: %v, %v", again, err)
		}
	})
}
