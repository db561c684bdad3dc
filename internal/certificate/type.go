package certificate

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"time"
)

// Certificate is what a Frontend shows to clients, with its key. However it is
// printed, it shows its Name, never its key.
type Certificate struct {
	NotBefore, NotAfter time.Time
	name                string
	pem                 []byte
}

// newCertificate makes a Certificate of text that was printed from what was parsed:
// the chain, the server's certificate first, and then the key.
func newCertificate(notBefore, notAfter time.Time, pem []byte) *Certificate {
	sum := sha256.Sum256(pem)
	return &Certificate{notBefore, notAfter, hex.EncodeToString(sum[:16]), pem}
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
