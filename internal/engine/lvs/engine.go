// Package lvs is all that belongs to the engine LVS: IPVS in the kernel, which
// keepalived keeps.
package lvs

import (
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/templates"
)

const name = "lvs"

// Engine is LVS. Its keepalived moves addresses, too.
var Engine = &engine.Engine{
	Name:         name,
	Capabilities: capabilities,
	Rendering: engine.Rendering{
		Templates: templates.Of(name),
		View:      viewOf,
		Main:      func([]engine.Shared) any { return nil },
		Facts:     factsOf,
		Keeps:     true,
	},
	Software: engine.Software{
		Section:  "keepalived",
		Settings: func() engine.Settings { return &Settings{} },
		Service:  "keepalived.service",
		Open:     open,
		Moves:    true,
	},
}

var (
	_ engine.WholeChecker = (*Daemon)(nil)
	_ engine.Mover        = (*Daemon)(nil)
	_ engine.Repairer     = (*Daemon)(nil)
	_ engine.Drainer      = (*Daemon)(nil)
	_ engine.Diagnoser    = (*Daemon)(nil)
	_ engine.Observer     = (*Daemon)(nil)
)
