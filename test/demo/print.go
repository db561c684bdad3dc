package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

type colour string

const (
	bold  colour = "1"
	dim   colour = "2"
	red   colour = "31"
	green colour = "32"
	cyan  colour = "36"
)

var onTerminal = term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("NO_COLOR") == ""

func paint(c colour, text string) string {
	if !onTerminal {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

func title(format string, args ...any) {
	fmt.Printf("\n%s\n", paint(bold, "▶ "+fmt.Sprintf(format, args...)))
}

func say(format string, args ...any) { fmt.Printf("  %s\n", fmt.Sprintf(format, args...)) }

func good(format string, args ...any) {
	fmt.Printf("  %s\n", paint(green, "✓ "+fmt.Sprintf(format, args...)))
}

// command shows what a user would type.
func command(line string) { fmt.Printf("  %s\n", paint(cyan, "$ "+line)) }

// block shows output or a manifest.
func block(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		fmt.Print("    ", paint(dim, strings.TrimRight(line, "\n")), "\n")
	}
}

// indent writes every line two columns in.
type indent struct{ to io.Writer }

// Write implements io.Writer for whole lines.
func (w indent) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		if _, err := fmt.Fprintf(w.to, "  %s", paint(dim, string(line))); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
