// Package certificate reads certificates and their keys, within bounds, and prints
// them again: what daemons are given is never the text that somebody wrote.
package certificate

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Bounds of what a daemon is given, and of what reading it can cost.
const (
	// MaxBytes of what is printed of a Certificate: more than any that Parse takes has.
	MaxBytes    = 160 << 10
	MaxChain    = 128 << 10 // bytes
	MaxKey      = 16 << 10  // bytes
	maxKeyDER   = 3 << 10   // bytes: an RSA key of 4096 bits has 2375
	MaxCount    = 16        // certificates
	minRSA      = 2048      // bits, below which OpenSSL refuses a key
	maxRSA      = 4096      // bits, above which a handshake costs the daemon too much
	blockOfCert = "CERTIFICATE"
	blockOfKey  = "PRIVATE KEY" // PKCS #8
)

// Parse reads a chain and its key, both in PEM. Whatever else is
// around them is left out. The errors are for the owner of the two, and tell
// nothing of the key.
func Parse(chain, key []byte) (*Certificate, error) {
	switch {
	case len(chain) > MaxChain:
		return nil, fmt.Errorf("tls.crt has more than %d bytes", MaxChain)
	case len(key) > MaxKey:
		return nil, fmt.Errorf("tls.key has more than %d bytes", MaxKey)
	}
	return parse(chain, key)
}

// ParsePrinted reads what PEM has printed of a Certificate.
func ParsePrinted(text []byte) (*Certificate, error) {
	if len(text) > MaxBytes {
		return nil, fmt.Errorf("a certificate and its key have more than %d bytes", MaxBytes)
	}
	return parse(text, text)
}

func parse(chain, key []byte) (*Certificate, error) {
	certificates, err := parseChain(chain)
	if err != nil {
		return nil, err
	}
	leaf := certificates[0]
	if err := fit(leaf.PublicKey); err != nil { // before its key is read, which may be long work
		return nil, err
	}
	parsed, err := parseKey(key)
	if err != nil {
		return nil, err
	}
	if public, ok := parsed.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(leaf.PublicKey) {
		return nil, errors.New("tls.key is not the key of the first certificate in tls.crt: store the two that belong together, the server's certificate before those of its issuers")
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
	return newCertificate(leaf.NotBefore, leaf.NotAfter, out.Bytes()), nil
}

// parseChain returns one certificate at least.
func parseChain(text []byte) ([]*x509.Certificate, error) {
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
		if all = append(all, c); len(all) > MaxCount {
			return nil, fmt.Errorf("tls.crt has more than %d certificates: the server's and those of its issuers are enough", MaxCount)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("tls.crt has no certificate in PEM")
	}
	return all, nil
}

// parseKey returns the first key.
func parseKey(text []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case !strings.HasSuffix(block.Type, blockOfKey):
			continue
		case block.Type == "ENCRYPTED "+blockOfKey || block.Headers["DEK-Info"] != "":
			return nil, errors.New("the key in tls.key is encrypted: store it without a password")
		case len(block.Bytes) > maxKeyDER:
			return nil, fmt.Errorf("the key in tls.key has %d bytes, more than one of RSA with %d bits: make a smaller one", len(block.Bytes), maxRSA)
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

// fit refuses keys that the daemons refuse, that clients do not know, or that make each
// handshake dear.
func fit(public crypto.PublicKey) error {
	switch key := public.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSA || bits > maxRSA {
			return fmt.Errorf("the RSA key of the first certificate in tls.crt has %d bits, want %d to %d: make another", bits, minRSA, maxRSA)
		}
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
			return fmt.Errorf("the key of the first certificate in tls.crt is on the curve %s, want P-256 or P-384: make another", key.Curve.Params().Name)
		}
	case ed25519.PublicKey:
	default:
		return errors.New("the key of the first certificate in tls.crt is neither RSA nor ECDSA nor Ed25519")
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
