// Package engines is the table of all engines: the one place that names them.
package engines

import (
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/haproxy"
	"github.com/external-lb/external-lb/internal/engine/keepalived"
	"github.com/external-lb/external-lb/internal/engine/lvs"
	"github.com/external-lb/external-lb/internal/engine/nginx"
)

// Table has every engine, and what moves addresses between hosts.
var Table = engine.Table{
	Engines:   []*engine.Engine{nginx.Engine, haproxy.Engine, lvs.Engine},
	Datagrams: lvs.Engine,
	VRRP:      keepalived.Addresses,
}

// Named is the engine of a name. One that does not exist can do nothing.
func Named[Name ~string](name Name) *engine.Engine {
	if e := Table.Find(string(name)); e != nil {
		return e
	}
	return &engine.Engine{Name: string(name)}
}

// Carrying are the engines of a Balancer, by the names in its engine and its datagrams.
func Carrying[Name, Datagrams ~string](name Name, datagrams Datagrams) engine.Carriers {
	c := engine.Carriers{Main: Named(name)}
	if datagrams != "" {
		c.Datagrams = Named(strings.ToLower(string(datagrams)))
	}
	return c
}
