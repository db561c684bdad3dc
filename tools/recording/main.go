// Command recording records a program in a terminal, as an asciicast, and draws a part of
// it as an SVG that moves: one that needs no script, so it can be shown wherever an image can.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// The terminal: wide enough for the tables of kubectl, and a screen that can be read as a picture.
const (
	columns = 120
	height  = 30
)

// beginning is where the picture begins: what the demo does before is for who has time.
const beginning = "▶ Pods, as a Deployment"

func main() {
	cast := flag.String("cast", "", "the asciicast: written if there is a program, else read")
	svg := flag.String("svg", "", "the SVG to write")
	title := flag.String("title", "", "what it shows")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, *cast, *title, flag.Args())
	if err == nil {
		err = picture(*cast, *svg, beginning)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "recording:", err)
		os.Exit(1)
	}
}

// run records a program, if there is one. What fails leaves the recording before.
func run(ctx context.Context, cast, title string, argv []string) error {
	if len(argv) == 0 {
		return nil
	}
	r, err := record(ctx, title, argv, os.Stdout)
	if err != nil {
		return err
	}
	return r.write(cast)
}

// picture draws what is recorded in a file.
func picture(cast, svg, from string) error {
	r, err := read(cast)
	if err != nil {
		return err
	}
	rows, err := r.rows(columns)
	if err != nil {
		return err
	}
	if rows = begin(rows, from); len(rows) == 0 {
		return errors.New("nothing to draw")
	}
	return os.WriteFile(svg, draw(r.Title, rows), 0o644)
}
