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
		Layouts:  layouts,

		BackendBytes: 16 << 10, // measured: 13 KB
	},
}

// layouts: each service reads other files, and gives HAProxy its options in another variable. SELinux
// lets HAProxy make a socket only below its own directory.
var layouts = map[string]engine.Layout{
	"rhel": {Settings: `
confDir: /etc/haproxy/conf.d
environment: /etc/sysconfig/haproxy
options: OPTIONS=
socket: /var/lib/haproxy/external-lb.sock
`},
	"suse": {Settings: `
environment: /etc/sysconfig/haproxy
options: EXTRAOPTS=-S /run/haproxy/master.sock
pidFile: /run/haproxy/pid
`},
	"alpine": {Cannot: "Alpine's service of HAProxy reads one file, and has no master that could be told to reload: take another engine here"},
}

var (
	_ engine.WholeChecker = (*Daemon)(nil)
	_ engine.HotReloader  = (*Daemon)(nil)
	_ engine.Diagnoser    = (*Daemon)(nil)
	_ engine.Repairer     = (*Daemon)(nil)
	_ engine.Drainer      = (*Daemon)(nil)
	_ engine.RootDrainer  = (*Daemon)(nil)
	_ engine.Observer     = (*Daemon)(nil)
)
