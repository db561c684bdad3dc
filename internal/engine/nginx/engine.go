// Package nginx is all that belongs to the engine nginx.
package nginx

import (
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/templates"
)

const name = "nginx"

// Engine is nginx, with its stream module, and its http module for mode HTTP.
var Engine = &engine.Engine{
	Name:         name,
	Capabilities: capabilities,
	Rendering: engine.Rendering{
		Templates: templates.Of(name),
		View:      viewOf,
		Main:      func([]engine.Shared) any { return nil },
		Facts:     factsOf,
	},
	Software: engine.Software{
		Section:  name,
		Settings: func() engine.Settings { return &Settings{} },
		Service:  "nginx.service",
		Open:     open,
		Moves:    false,
		Layouts:  map[string]engine.Layout{"alpine": {Settings: "pidFile: /run/nginx/nginx.pid"}},
		Vacate:   vacate,

		BackendBytes: 4 << 10, // measured: 2 KB
	},
}

var (
	_ engine.WholeChecker = (*Daemon)(nil)
	_ engine.Opener       = (*Daemon)(nil)
	_ engine.Observer     = (*Daemon)(nil)
)

// vacate says what to do about nginx's own site on a port that a Service wants.
func vacate(process string, held fileset.Socket) string {
	if process != "" && process != name {
		return ""
	}
	if port := held.Address.Port(); held.Network != "tcp" || !held.Address.Addr().IsUnspecified() || port != 80 && port != 443 {
		return ""
	}
	return "if that is nginx's own site (Debian's is /etc/nginx/sites-enabled/default), remove it or give its listen directive an address, and restart nginx"
}
