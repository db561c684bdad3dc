// Package keepalived is all that belongs to keepalived, which agrees with the other
// hosts of a Balancer which of them has its addresses (VRRP).
package keepalived

import "github.com/external-lb/external-lb/internal/engine"

const name = "keepalived"

// Addresses is keepalived beside a daemon that carries the traffic.
var Addresses = &engine.Addresses{
	Name:   name,
	Router: mainPath,
	Brings: broughtBy,
	Files:  filesOf,
	Software: engine.Software{
		Section:  name,
		Settings: func() engine.Settings { return &Settings{} },
		Service:  "keepalived.service",
		Open:     open,
		Moves:    true,
	},
}

var (
	_ engine.WholeChecker = (*Daemon)(nil)
	_ engine.Mover        = (*Daemon)(nil)
)
