package wire

//go:generate go tool -modfile=../../tools/proto/go.mod buf lint
//go:generate go tool -modfile=../../tools/proto/go.mod buf generate
