package render

import (
	"regexp"

	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

// CertificatePath of the file that holds a certificate with its key. The name is
// made of the content: a fragment that names it changes with it, so that what is
// proved of the fragment is proved of the certificate, and Services that have the
// same one share it.
func CertificatePath(c *lb.Certificate) string { return "certs/" + c.Name() + ".pem" }

var certificatePath = regexp.MustCompile(`^certs/[0-9a-f]{32}\.pem$`)

// Ours reports whether a path is that of a Service's fragment or of a certificate.
func Ours(path string) bool {
	_, fragment := ParsePath(path)
	return fragment || certificatePath.MatchString(path)
}

// tlsPath is what the templates print of a Frontend's certificate: its path below
// the root of the set. Empty: TLS is not terminated.
func tlsPath(s lb.Settings) string {
	if s.Certificate == nil {
		return ""
	}
	return CertificatePath(s.Certificate)
}

// ciphers of TLS 1.2: those with forward secrecy and authenticated encryption.
// suites are those of TLS 1.3.
const (
	ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:" +
		"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:" +
		"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
	suites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
)

// certificates are the files of those that a Service's Frontends have, each once.
func certificates(s *lb.Service) ([]fileset.File, error) {
	var files []fileset.File
	seen := map[string]bool{}
	for _, f := range s.Frontends {
		c := f.Settings.Certificate
		if c == nil || seen[c.Name()] {
			continue
		}
		seen[c.Name()] = true
		file, err := fileset.NewPrivate(CertificatePath(c), c.PEM())
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

// distinct are the certificates' files of all fragments, each once.
func distinct(fragments map[*lb.Service]*fragment) []fileset.File {
	var files []fileset.File
	seen := map[string]bool{}
	for _, f := range fragments {
		for _, c := range f.certificates {
			if !seen[c.Path] {
				seen[c.Path] = true
				files = append(files, c) // the set sorts them
			}
		}
	}
	return files
}
