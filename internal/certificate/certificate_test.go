package certificate

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
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
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
	// rsa2 takes seconds where its steps are counted, as those of fuzzing are.
	rsa2 = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
)

func TestCertificatesAreRead(t *testing.T) {
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
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
		"RSA, PKCS #8":        {rsa2(), nil, pkcs8(rsa2()), 1},
		"RSA, PKCS #1":        {rsa2(), nil, asPEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsa2())), 1},
		"ECDSA, P-384":        {p384, nil, pkcs8(p384), 1},
		"Ed25519":             {ed, nil, pkcs8(ed), 1},
		"with its issuer":     {p256, issuer, pkcs8(p256), 2},
		"lines as on Windows": {p256, crlf(issuer), crlf(pkcs8(p256)), 2},
		"the key in both":     {p256, slices.Concat(pkcs8(rsa2()), issuer), pkcs8(p256), 2},
		"with comments":       {p256, slices.Concat([]byte("# }\nserver { listen 1; }\n"), issuer, []byte("${HOME}\n")), slices.Concat([]byte("global\n\tstats\n"), pkcs8(p256)), 2},
		"with unknown blocks": {p256, slices.Concat(asPEM("X509 CRL", []byte("x")), issuer), slices.Concat(asPEM("DH PARAMETERS", []byte("x")), pkcs8(p256)), 2},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Parse(slices.Concat(asPEM("CERTIFICATE", certify(tc.key)), tc.chain), tc.pem)
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
		"somebody else's key":   {good, pkcs8(rsa2()), "tls.key is not the key of the first certificate"},
		"issuer first":          {slices.Concat(asPEM("CERTIFICATE", certify(rsa2())), good), pkcs8(p256), "tls.key is not the key of the first certificate"},
		"huge":                  {bytes.Repeat([]byte("A"), 128<<10+1), pkcs8(p256), "tls.crt has more than 131072 bytes"},
		"huge key":              {good, bytes.Repeat([]byte("A"), 16<<10+1), "tls.key has more than 16384 bytes"},
		"a large key":           {good, asPEM("RSA PRIVATE KEY", make([]byte, 3<<10+1)), "more than one of RSA with 4096 bits"},
		"endless":               {bytes.Repeat(good, 17), pkcs8(p256), "more than 16 certificates"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Parse(tc.chain, tc.key)
			if c != nil || err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, %v; want %q", c, err, tc.want)
			}
			if text := err.Error(); len(text) > 400 || strings.ContainsAny(text, "\n\r") {
				t.Errorf("not fit for an event: %q", text)
			}
		})
	}
}

// showing is a certificate for a key that nobody has.
func showing(public crypto.PublicKey) []byte {
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	return asPEM("CERTIFICATE", must(x509.CreateCertificate(rand.Reader, template, template, public, p256)))
}

func rsaOf(bits uint) *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537}
}

// What a certificate says of its key is enough to refuse it: the key is not read.
func TestKeysThatAreRefusedUnread(t *testing.T) {
	for want, public := range map[string]crypto.PublicKey{
		"has 1024 bits, want 2048 to 4096":           rsaOf(1024),
		"has 4097 bits, want 2048 to 4096":           rsaOf(4097),
		"has 100000 bits, want 2048 to 4096":         rsaOf(100_000),
		"on the curve P-224, want P-256 or P-384":    must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)).Public(),
		"on the curve P-521, want P-256 or P-384":    must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)).Public(),
		"is not the key of the first certificate in": rsaOf(4096), // is read
	} {
		key := []byte("no key")
		if strings.HasPrefix(want, "is not") {
			key = pkcs8(p256)
		}
		if _, err := Parse(showing(public), key); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// The largest that is taken of a Secret can be read again by a host: lines that are
// not broken grow when they are printed.
func TestTheLargestCertificateIsReadAgain(t *testing.T) {
	padded := func(size int) []byte {
		der := certify(p256, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Value: make([]byte, size)}}
		})
		return []byte("-----BEGIN CERTIFICATE-----\n" + base64.StdEncoding.EncodeToString(der) + "\n-----END CERTIFICATE-----\n")
	}
	size := 96<<10 - 600
	text := padded(size)
	for next := text; len(next) <= MaxChain; next = padded(size) { // signatures differ in length
		text = next
		size += 3
	}
	c, err := Parse(text, slices.Concat(pkcs8(p256), bytes.Repeat([]byte("\n"), MaxKey-len(pkcs8(p256)))))
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParsePrinted(c.PEM())
	if err != nil || !again.Equal(c) || len(c.PEM()) < MaxChain {
		t.Errorf("%d bytes: %v", len(c.PEM()), err)
	}
	// The key is larger with RSA, and a chain has more heads of blocks.
	if most := len(c.PEM()) + 2*maxKeyDER + 100*MaxCount; most > MaxBytes {
		t.Errorf("up to %d bytes are printed, a host takes %d", most, MaxBytes)
	}
	if _, err := ParsePrinted(make([]byte, MaxBytes+1)); err == nil {
		t.Error("no bound for what is printed")
	}
}

// Whoever sends a certificate to a host says nothing beside it: what is around it, and in
// what form it comes, is gone.
func TestNothingIsPrintedBesideACertificate(t *testing.T) {
	c, err := Parse(asPEM("CERTIFICATE", certify(p256)), pkcs8(p256))
	if err != nil {
		t.Fatal(err)
	}
	const text = "x; include /etc/shadow;\n"
	plain := string(c.PEM())
	for what, said := range map[string]string{
		"before": text + plain, "behind": plain + text, "between": strings.Replace(plain, "-----\n-----BEGIN", "-----\n"+text+"-----BEGIN", 1),
		"a block": string(asPEM("X", []byte("x"))) + plain, "line breaks": strings.ReplaceAll(plain, "\n", "\r\n"),
		"a header": strings.Replace(plain, "CERTIFICATE-----\n", "CERTIFICATE-----\nx: y\n\n", 1),
	} {
		if again, err := ParsePrinted([]byte(said)); err != nil || string(again.PEM()) != plain {
			t.Errorf("%s: %v, %q", what, err, again.PEM())
		}
	}
}

// nginx and HAProxy let people have keys of 4096 bits, and so do we.
func TestTheLargestRSAKey(t *testing.T) {
	key := must(rsa.GenerateKey(rand.Reader, 4096))
	c, err := Parse(asPEM("CERTIFICATE", certify(key)), pkcs8(key))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ParsePrinted(c.PEM()); err != nil || !again.Equal(c) {
		t.Error(err)
	}
}

// The daemons would refuse it, and with it the file that names it.
func TestBrokenSignatures(t *testing.T) {
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
	one, same := must(Parse(chain, pkcs8(p256))), must(Parse(append([]byte("#\n"), chain...), pkcs8(p256)))
	other := must(Parse(slices.Concat(chain, asPEM("CERTIFICATE", certify(rsa2()))), pkcs8(p256)))
	var none *Certificate
	if !one.Equal(same) || one.Equal(other) || one.Equal(none) || none.Equal(one) || !none.Equal(nil) {
		t.Error("equal is what is not the same, or the other way round")
	}
}

// However a certificate gets into a text, its key does not.
func TestCertificatesNeverPrintTheirKey(t *testing.T) {
	c := must(Parse(asPEM("CERTIFICATE", certify(p256)), pkcs8(p256)))
	set := struct{ Certificate *Certificate }{c}
	for _, text := range []string{
		fmt.Sprint(c), fmt.Sprintf("%v %+v %#v %s %q %x", c, c, c, c, c, c), fmt.Sprintf("%v %+v %#v", set, set, set),
		fmt.Sprintf("%v", []any{set}), string(must(json.Marshal(set))),
	} {
		if strings.Contains(text, "PRIVATE") || strings.Contains(text, fmt.Sprintf("%x", "PRIVATE")) || strings.Contains(text, "80, 82, 73") {
			t.Errorf("prints %s", text)
		}
	}
	if got := fmt.Sprint((*Certificate)(nil)); got != "none" {
		t.Errorf("none is printed as %q", got)
	}
}

// FuzzParse has no seed with an RSA key: to take one is a thousand times the work of
// all else, and is the library's. Tests have them.
func FuzzParse(f *testing.F) {
	ed := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	f.Add(asPEM("CERTIFICATE", certify(p256)), pkcs8(p256))
	f.Add(slices.Concat(asPEM("CERTIFICATE", certify(ed)), asPEM("CERTIFICATE", certify(p256))), pkcs8(ed))
	f.Add(asPEM("CERTIFICATE", certify(p256)), asPEM("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(p256))))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n}\n-----END CERTIFICATE-----"), []byte("-----BEGIN PRIVATE KEY-----"))
	f.Fuzz(func(t *testing.T, chain, key []byte) {
		c, err := Parse(chain, key)
		if err != nil {
			return
		}
		if _, err := tls.X509KeyPair(c.PEM(), c.PEM()); err != nil {
			t.Error(err)
		}
		again, err := ParsePrinted(c.PEM())
		if err != nil || !again.Equal(c) {
			t.Errorf("reading what was printed: %v, %v", again, err)
		}
	})
}
