package lb

// The generated code is refreshed by `go generate ./internal/lb`, which needs
// nothing but Go: buf and the generators are tools of the modules named here.

//go:generate go tool -modfile=../../tools/proto/go.mod buf lint
//go:generate go tool -modfile=../../tools/proto/go.mod buf generate
