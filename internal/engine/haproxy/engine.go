// Package haproxy is all that belongs to the engine HAProxy.
package haproxy

import (
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/templates"
)

const name = "haproxy"

// Engine is HAProxy.
var Engine = &engine.Engine{
	Name:         name,
	Capabilities: capabilities,
	Rendering: engine.Rendering{
		Templates: templates.Of(name),
		View:      viewOf,
		Main:      mainOf,
		Facts:     factsOf,
		Keeps:     true,
	},
	Software: engine.Software{
		Section:  name,
		Settings: func() engine.Settings { return &Settings{} },
		Service:  "haproxy.service",
		Open:     open,
		Moves:    false,

		BackendBytes: 16 << 10, // measured: 13 KB
	},
}

var (
	_ engine.WholeChecker = (*Daemon)(nil)
	_ engine.HotReloader  = (*Daemon)(nil)
	_ engine.Diagnoser    = (*Daemon)(nil)
	_ engine.Repairer     = (*Daemon)(nil)
	_ engine.Observer     = (*Daemon)(nil)
)
