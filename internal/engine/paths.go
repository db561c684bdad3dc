package engine

import (
	"regexp"
	"strings"

	"github.com/external-lb/external-lb/internal/lb"
)

// MainPath is the path of the file that stands for the whole set.
const MainPath = "main.conf"

const (
	// ServicesPrefix begins the paths of fragments, and HTTPPrefix those of what a Service
	// has in a file of its own for HTTP.
	ServicesPrefix = "services/"
	HTTPPrefix     = "http/"
	suffix         = ".conf"
)

// Path of the fragment that carries a Service. Two Services never share one, not
// even one that is deleted and made again under its name.
func Path(id lb.ID) string { return ServicesPrefix + fileName(id) }

// HTTPPath of the fragment that carries what a Service has for HTTP.
func HTTPPath(id lb.ID) string { return HTTPPrefix + fileName(id) }

func fileName(id lb.ID) string {
	return id.Namespace + "." + id.Name + "." + id.UID + suffix
}

// ParsePath finds the Service that a fragment carries.
func ParsePath(path string) (lb.ID, bool) {
	name, isService := strings.CutPrefix(path, ServicesPrefix)
	if !isService {
		name, isService = strings.CutPrefix(path, HTTPPrefix)
	}
	name, isConf := strings.CutSuffix(name, suffix)
	parts := strings.Split(name, ".")
	if !isService || !isConf || len(parts) != 3 {
		return lb.ID{}, false
	}
	id, err := lb.NewID(parts[0], parts[1], parts[2])
	return id, err == nil
}

// CertificatePath of the file that holds a certificate with its key. The name is
// made of the content: a fragment that names it changes with it, so that what is
// proved of the fragment is proved of the certificate, and Services that have the
// same one share it.
func CertificatePath(name string) string { return "certs/" + name + ".pem" }

var certificatePath = regexp.MustCompile(`^certs/[0-9a-f]{32}\.pem$`)

// Ours reports whether a path is that of a Service's fragment or of a certificate.
func Ours(path string) bool {
	_, fragment := ParsePath(path)
	return fragment || certificatePath.MatchString(path)
}

// TLSPath is what templates print of a Frontend's certificate: its path below
// the root of the set. Empty: TLS is not terminated.
func TLSPath(s lb.Settings) string {
	if s.Certificate == "" {
		return ""
	}
	return CertificatePath(s.Certificate)
}

// Ciphers of TLS 1.2: those with forward secrecy and authenticated encryption.
// Suites are those of TLS 1.3.
const (
	Ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:" +
		"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:" +
		"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
	Suites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
)
