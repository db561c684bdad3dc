package lb

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Certificate is what a Frontend shows to clients, with its key. Its text in PEM
// is printed from what was parsed. However it is printed itself, it shows its
// Name, never its key.
type Certificate struct {
	NotBefore, NotAfter time.Time
	name                string
	pem                 []byte
}

// Name is made of the content: 32 hexadecimal digits.
func (c *Certificate) Name() string { return c.name }

// PEM holds the chain, the server's certificate first, and then the key.
func (c *Certificate) PEM() []byte { return c.pem }

// Equal reports whether two Certificates are the same, or both nil.
func (c *Certificate) Equal(o *Certificate) bool {
	return c == o || c != nil && o != nil && c.name == o.name
}

// Format implements fmt.Formatter.
func (c *Certificate) Format(f fmt.State, _ rune) {
	name := "none"
	if c != nil {
		name = c.name
	}
	_, _ = io.WriteString(f, name) // f reports its own errors
}

// Bounds of what a daemon is given.
const (
	maxPEM      = 128 << 10 // bytes of the chain, or of the key
	maxChain    = 16        // certificates
	minRSA      = 2048      // bits, below which OpenSSL refuses a key
	blockOfCert = "CERTIFICATE"
	blockOfKey  = "PRIVATE KEY" // PKCS #8
)

// ParseCertificate reads a chain and its key, both in PEM. Whatever else is
// around them is left out. The errors are for the owner of the two, and tell
// nothing of the key.
func ParseCertificate(chain, key []byte) (*Certificate, error) {
	certificates, err := parseChain(chain)
	if err != nil {
		return nil, err
	}
	parsed, err := parseKey(key)
	if err != nil {
		return nil, err
	}
	leaf := certificates[0]
	if public, ok := parsed.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(leaf.PublicKey) {
		return nil, errors.New("tls.key is not the key of the first certificate in tls.crt: store the two that belong together, the server's certificate before those of its issuers")
	}
	if err := strong(leaf.PublicKey); err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(parsed)
	if err != nil {
		return nil, fmt.Errorf("tls.key cannot be written again: %w", err)
	}
	var out bytes.Buffer
	for _, c := range certificates {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: blockOfCert, Bytes: c.Raw}))
	}
	out.Write(pem.EncodeToMemory(&pem.Block{Type: blockOfKey, Bytes: der}))
	sum := sha256.Sum256(out.Bytes())
	return &Certificate{leaf.NotBefore, leaf.NotAfter, hex.EncodeToString(sum[:16]), out.Bytes()}, nil
}

// parseChain returns one certificate at least.
func parseChain(text []byte) ([]*x509.Certificate, error) {
	if len(text) > maxPEM {
		return nil, fmt.Errorf("tls.crt has more than %d bytes", maxPEM)
	}
	var all []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != blockOfCert {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d in tls.crt cannot be read: %.200s", len(all)+1, err)
		}
		if err := strongSignature(c); err != nil {
			return nil, fmt.Errorf("certificate %d in tls.crt %w", len(all)+1, err)
		}
		if all = append(all, c); len(all) > maxChain {
			return nil, fmt.Errorf("tls.crt has more than %d certificates: the server's and those of its issuers are enough", maxChain)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("tls.crt has no certificate in PEM")
	}
	return all, nil
}

// parseKey returns the first key.
func parseKey(text []byte) (crypto.Signer, error) {
	if len(text) > maxPEM {
		return nil, fmt.Errorf("tls.key has more than %d bytes", maxPEM)
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case !strings.HasSuffix(block.Type, blockOfKey):
			continue
		case block.Type == "ENCRYPTED "+blockOfKey || block.Headers["DEK-Info"] != "":
			return nil, errors.New("the key in tls.key is encrypted: store it without a password")
		}
		if key := parseDER(block.Bytes); key != nil {
			return key, nil
		}
		return nil, errors.New("the key in tls.key cannot be read: it must be RSA, ECDSA or Ed25519, in PKCS #8, PKCS #1 or SEC 1")
	}
	return nil, errors.New("tls.key has no private key in PEM")
}

// parseDER reads a key in any of the usual forms; nil if it is in none. What is
// wrong with it is not told: it is a key.
func parseDER(der []byte) crypto.Signer {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		signer, _ := key.(crypto.Signer) // a key for key exchange is none
		return signer
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key
	}
	return nil
}

// strong refuses keys that the daemons refuse, or clients do not know.
func strong(public crypto.PublicKey) error {
	switch key := public.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < minRSA {
			return fmt.Errorf("the RSA key in tls.key has %d bits, the least that will do is %d: make a larger one", key.N.BitLen(), minRSA)
		}
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P224() {
			return errors.New("the key in tls.key is on the curve P-224, which clients do not know: make one on P-256")
		}
	case ed25519.PublicKey:
	default:
		return errors.New("the key in tls.key is neither RSA nor ECDSA nor Ed25519")
	}
	return nil
}

// strongSignature refuses signatures that the daemons refuse. Nobody looks at
// that of a certificate which signs itself.
func strongSignature(c *x509.Certificate) error {
	switch c.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		if !bytes.Equal(c.RawIssuer, c.RawSubject) {
			return fmt.Errorf("is signed with %s, which is broken: have it signed with SHA-256", c.SignatureAlgorithm)
		}
	}
	return nil
}
