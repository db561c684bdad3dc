// Package templates holds the templates of configuration files, in a folder for each
// engine and for what moves addresses.
package templates

import (
	"embed"
	"io/fs"
)

// Engines are all folders.
//
//go:embed */*.tmpl
var Engines embed.FS

// Of are the templates in one folder.
func Of(name string) fs.FS {
	folder, err := fs.Sub(Engines, name)
	if err != nil {
		panic(err) // a name that is no path
	}
	return folder
}
