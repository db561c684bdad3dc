// Package templates holds the templates of the engines' configuration files.
package templates

import "embed"

// Engines are the templates, in a folder for each engine.
//
//go:embed nginx/*.tmpl haproxy/*.tmpl keepalived/*.tmpl lvs/*.tmpl
var Engines embed.FS
