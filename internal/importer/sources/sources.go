// Package sources is the table of what can be imported from a file: the one place that names
// them.
package sources

import (
	"github.com/external-lb/external-lb/internal/importer"
	"github.com/external-lb/external-lb/internal/importer/haproxy"
	"github.com/external-lb/external-lb/internal/importer/keepalived"
	"github.com/external-lb/external-lb/internal/importer/nginx"
)

// Table has every source.
var Table = []importer.Source{nginx.Source, haproxy.Source, keepalived.Source}
