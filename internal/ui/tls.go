package ui

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"

	certutil "k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

// isShared reports whether others than this machine, or this pod, reach an address.
func isShared(address string) (bool, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false, fmt.Errorf("the page's address %q: want HOST:PORT, or :PORT for all addresses: %w", address, err)
	}
	ip, err := netip.ParseAddr(host)
	return host != "localhost" && (err != nil || !ip.IsLoopback()), nil
}

// tlsConfig of a page, and what reads its certificate again when that changes; nil where nobody
// gave one.
func tlsConfig(m Managed) (*tls.Config, starter, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}} // a connection for each answer
	if m.CertDir == "" {
		cert, key, err := certutil.GenerateSelfSignedCertKey("localhost", []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, m.Names)
		if err != nil {
			return nil, nil, fmt.Errorf("a certificate for the page: %w", err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, nil, fmt.Errorf("a certificate for the page: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
		return config, nil, nil
	}
	watched, err := certwatcher.New(filepath.Join(m.CertDir, "tls.crt"), filepath.Join(m.CertDir, "tls.key"))
	if err != nil {
		return nil, nil, fmt.Errorf("the page's certificate: %w", err)
	}
	config.GetCertificate = watched.GetCertificate
	return config, watched, nil
}
