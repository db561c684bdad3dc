// Package cli is the commands: flags and words around the packages that do the
// work.
package cli
