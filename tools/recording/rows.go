package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// row is a row of the terminal, and when something was first printed in it.
type row struct {
	at    time.Duration
	spans []span
}

// span is text in one style.
type span struct{ style, text string }

func (r row) text() string {
	var b strings.Builder
	for _, s := range r.spans {
		b.WriteString(s.text)
	}
	return b.String()
}

// styles are what the program may use, by their codes (SGR).
var styles = map[string]string{"": "", "0": "", "1": "b", "2": "d", "31": "r", "32": "g", "36": "c"}

// piece is what a terminal does one thing with.
var piece = regexp.MustCompile(`\x1b\[[0-9;?]*[@-~]|\x1b|\r*\n|[\x00-\x1f]|[^\x00-\x1f]+`)

// screen is a terminal of a program that writes row by row. It can do no more than that: it
// refuses what would move back.
type screen struct {
	width int
	style string
	at    time.Duration
	rows  []row
	open  bool // the last row goes on
}

// rows are what a screen of some width shows in the end, if it is long enough.
func (r *recording) rows(width int) ([]row, error) {
	s := &screen{width: width}
	rest := ""
	for _, e := range r.events {
		s.at = e.at
		text := rest + e.text
		rest = ""
		if cut := unfinished(text); cut >= 0 {
			text, rest = text[:cut], text[cut:]
		}
		for _, p := range piece.FindAllString(text, -1) {
			if err := s.take(p); err != nil {
				return nil, fmt.Errorf("after %s: %w", e.at, err)
			}
		}
	}
	if rest != "" {
		return nil, fmt.Errorf("it ends with %q", rest)
	}
	return s.rows, nil
}

// unfinished is where a sequence or the end of a row begins that the next event goes on with, or -1.
func unfinished(text string) int {
	if trimmed := strings.TrimRight(text, "\r"); trimmed != text {
		return len(trimmed)
	}
	last := strings.LastIndex(text, "\x1b")
	if last >= 0 && strings.Trim(text[last+1:], "[0123456789;") == "" {
		return last
	}
	return -1
}

func (s *screen) take(p string) error {
	switch {
	case strings.HasSuffix(p, "\n"):
		s.row()
		s.open = false
	case p[0] == '\x1b' && strings.HasSuffix(p, "m"):
		style, known := styles[strings.TrimSuffix(strings.TrimPrefix(p, "\x1b["), "m")]
		if !known {
			return fmt.Errorf("no such style: %q", p)
		}
		s.style = style
	case p == "\t":
		s.print(strings.Repeat(" ", 8-utf8.RuneCountInString(s.row().text())%8))
	case p[0] < ' ':
		return fmt.Errorf("it prints %q", p)
	default:
		s.print(p)
	}
	return nil
}

// row is the row that is printed in.
func (s *screen) row() *row {
	if !s.open {
		s.rows = append(s.rows, row{at: s.at})
		s.open = true
	}
	return &s.rows[len(s.rows)-1]
}

// print goes on in the next row where one is full.
func (s *screen) print(text string) {
	for text != "" {
		r := s.row()
		room := s.width - utf8.RuneCountInString(r.text())
		if room == 0 {
			s.open = false
			continue
		}
		fits := text
		if runes := []rune(text); len(runes) > room {
			fits = string(runes[:room])
		}
		r.spans = append(r.spans, span{s.style, fits})
		text = text[len(fits):]
	}
}

// begin drops the rows before the first one with some words.
func begin(rows []row, words string) []row {
	first := slices.IndexFunc(rows, func(r row) bool { return strings.Contains(r.text(), words) })
	if first < 0 {
		return nil
	}
	return rows[first:]
}
