// Package keepalived reads a hand-kept keepalived configuration: virtual servers whose real
// servers are NodePorts, or nodes that packets reach as they came.
package keepalived

import (
	"fmt"
	"strings"

	"github.com/external-lb/external-lb/internal/importer"
)

// directive of a configuration, with what is in its block.
type directive struct {
	place importer.Place
	words []string
	block []directive
	open  bool // it has a block
}

func (d *directive) word(i int) string {
	if i < len(d.words) {
		return d.words[i]
	}
	return ""
}

// parser of all files of one configuration.
type parser struct {
	include importer.Include
	notes   *importer.Notes

	bytes, files int
}

// parse a file that is nested in others.
func (p *parser) parse(f importer.File, nesting int) ([]directive, error) {
	if p.bytes += len(f.Text); p.bytes > importer.MaxBytes {
		return nil, fmt.Errorf("%s: the files are larger than %d bytes together", f.Name, importer.MaxBytes)
	}
	if p.files++; p.files > importer.MaxFiles {
		return nil, fmt.Errorf("%s: there are more than %d files", f.Name, importer.MaxFiles)
	}
	stack := []*directive{{}} // the blocks that are open; the first is the file
	number := 0
	for text := range strings.Lines(f.Text) {
		number++
		at := importer.Place{File: f.Name, Line: number}
		words, err := split(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
		if stack, err = p.line(stack, words, at, nesting); err != nil {
			return nil, err
		}
	}
	if len(stack) > 1 {
		return nil, fmt.Errorf("%s: the } of %s is missing", stack[len(stack)-1].place, stack[len(stack)-1].word(0))
	}
	return stack[0].block, nil
}

// line puts the words of one into the blocks that are open.
func (p *parser) line(stack []*directive, words []string, at importer.Place, nesting int) ([]*directive, error) {
	var d directive
	end := func() error {
		if len(d.words) == 0 {
			return nil
		}
		list, err := p.expand(d, nesting)
		top := stack[len(stack)-1]
		top.block = append(top.block, list...)
		d = directive{}
		return err
	}
	for _, w := range words {
		switch w {
		case "{":
			if len(stack)+nesting > importer.MaxNesting {
				return nil, fmt.Errorf("%s: blocks and includes are nested more than %d deep", at, importer.MaxNesting)
			}
			if err := end(); err != nil {
				return nil, err
			}
			top := stack[len(stack)-1]
			n := len(top.block)
			if n == 0 || top.block[n-1].open {
				return nil, fmt.Errorf("%s: nothing is before this {", at)
			}
			// Closed, a block is put back into the one around it.
			opened := top.block[n-1]
			opened.open, top.block = true, top.block[:n-1]
			stack = append(stack, &opened)
		case "}":
			if err := end(); err != nil {
				return nil, err
			}
			n := len(stack)
			if n == 1 {
				return nil, fmt.Errorf("%s: a } too many", at)
			}
			stack[n-2].block = append(stack[n-2].block, *stack[n-1])
			stack = stack[:n-1]
		default:
			d.place, d.words = at, append(d.words, w)
		}
	}
	return stack, end()
}

// expand puts the files that a line includes in its place.
func (p *parser) expand(d directive, nesting int) ([]directive, error) {
	if !strings.HasPrefix(d.words[0], "include") || len(d.words) != 2 {
		return []directive{d}, nil
	}
	if nesting > importer.MaxNesting {
		return nil, fmt.Errorf("%s: files include each other more than %d deep", d.place, importer.MaxNesting)
	}
	files, err := p.include(d.words[1])
	if err != nil {
		return nil, fmt.Errorf("%s: include %s: %w", d.place, d.words[1], err)
	}
	if len(files) == 0 && !strings.ContainsAny(d.words[1], "*?[") {
		p.notes.Add(d.place, "include %s: there is no such file here, so what is in it is not imported", d.words[1])
	}
	var out []directive
	for _, f := range files {
		more, err := p.parse(f, nesting+1)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

// split a line into words and braces. Behind ! and # there are comments.
func split(text string) (words []string, err error) {
	if len(text) > importer.MaxLine {
		return nil, fmt.Errorf("the line is longer than %d bytes", importer.MaxLine)
	}
	for rest := strings.TrimSpace(text); rest != ""; rest = strings.TrimSpace(rest) {
		switch c := rest[0]; c {
		case '!', '#':
			return words, nil
		case '{', '}':
			words, rest = append(words, rest[:1]), rest[1:]
		case '"', '\'':
			word, after, closed := strings.Cut(rest[1:], rest[:1])
			if !closed {
				return nil, fmt.Errorf("a %c is not closed", c)
			}
			words, rest = append(words, word), after
		default:
			i := strings.IndexAny(rest, " \t\r{}")
			if i < 0 {
				i = len(rest)
			}
			words, rest = append(words, rest[:i]), rest[i:]
		}
	}
	return words, nil
}
