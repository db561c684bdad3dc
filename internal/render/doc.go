// Package render turns an lb.Config into the fileset.Set of an engine's
// configuration files.
package render
