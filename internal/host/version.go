package host

// version is set by the linker: make build.
var version = "devel"

// Version is that of this program.
func Version() string { return version }
