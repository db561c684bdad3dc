package lb

import "github.com/external-lb/external-lb/internal/certificate"

// Certificate is what Frontends show to clients, with its key.
type Certificate = certificate.Certificate
