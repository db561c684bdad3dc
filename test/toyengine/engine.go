// Package toyengine is an engine that nobody should use: it shows what another one
// takes, and its test holds docs/contributing/add-an-engine.md to that. Its daemon is
// toyd, a program of a page that forwards TCP.
package toyengine

import (
	"embed"
	"io/fs"

	"github.com/external-lb/external-lb/internal/engine"
)

const name = "toy"

// The folder would be templates/toy.
//
//go:embed templates/*.tmpl
var files embed.FS

func templates() fs.FS {
	folder, err := fs.Sub(files, "templates")
	if err != nil {
		panic(err) // a name that is no path
	}
	return folder
}

// Engine is toyd.
var Engine = &engine.Engine{
	Name:         name,
	Capabilities: capabilities,
	Rendering: engine.Rendering{
		Templates: templates(),
		View:      viewOf,
		Main:      func([]engine.Shared) any { return nil },
		Facts:     factsOf,
	},
	Software: engine.Software{
		Section:  name,
		Settings: func() engine.Settings { return &Settings{} },
		Open:     open,
		Moves:    false,
	},
}
