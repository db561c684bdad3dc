// Package engine is the contract of an engine, and what engines share. Each engine
// is a folder below this one with all that belongs to it: what it can do, how the
// model becomes its files, and how a host checks, loads and proves them. The two
// halves share types, never text: what templates print is kept with the files, as
// JSON, and the daemon's half reads that. Nothing here or elsewhere knows an engine
// by name; the package engines lists them.
package engine
