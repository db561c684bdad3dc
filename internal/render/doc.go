// Package render turns an lb.Config into the fileset.Set of a host's files, with the
// templates of an engine, built in or custom.
package render
