package main

import (
	"bytes"
	"io"
	"sync"
)

// gate holds back what is written until it is opened.
type gate struct {
	to   io.Writer
	mu   sync.Mutex
	open bool
	held bytes.Buffer
}

// Write implements io.Writer for whole lines.
func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open {
		return g.to.Write(p)
	}
	return g.held.Write(p)
}

// lift opens the gate and lets out what it held.
func (g *gate) lift() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = true
	_, err := g.held.WriteTo(g.to)
	return err
}
