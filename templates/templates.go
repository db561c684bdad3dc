// Package templates holds the templates of the engines' configuration files.
package templates

import "embed"

// Nginx are the templates for nginx, in the folder nginx.
//
//go:embed nginx/*.tmpl
var Nginx embed.FS
