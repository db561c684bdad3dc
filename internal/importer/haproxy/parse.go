// Package haproxy reads a hand-kept HAProxy configuration whose servers are NodePorts.
package haproxy

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/external-lb/external-lb/internal/importer"
)

// line of a section.
type line struct {
	place importer.Place
	words []string
}

func (l line) word(i int) string {
	if i < len(l.words) {
		return l.words[i]
	}
	return ""
}

// section is a proxy, or another part of the file.
type section struct {
	line
	name     string
	lines    []line
	defaults *section // that apply, nil: none
}

// kinds of sections.
var kinds = map[string]bool{
	"global": true, "defaults": true, "frontend": true, "backend": true, "listen": true,
	"peers": true, "resolvers": true, "userlist": true, "mailers": true, "cache": true, "program": true, "ring": true,
	"http-errors": true, "fcgi-app": true, "log-forward": true, "crt-store": true, "traces": true, "acme": true,
}

// parse files, one after the other, as HAProxy does with several -f.
func parse(files []importer.File) (sections []*section, err error) {
	var current, defaults *section
	bytes := 0
	for _, f := range files {
		if bytes += len(f.Text); bytes > importer.MaxBytes {
			return nil, fmt.Errorf("%s: the files are larger than %d bytes together", f.Name, importer.MaxBytes)
		}
		number := 0
		for text := range strings.Lines(f.Text) {
			number++
			l := line{place: importer.Place{File: f.Name, Line: number}}
			if l.words, err = split(text); err != nil {
				return nil, fmt.Errorf("%s: %w", l.place, err)
			}
			switch {
			case len(l.words) == 0:
			case kinds[l.words[0]]:
				current = &section{line: l, name: l.word(1), defaults: from(l, sections, defaults)}
				sections = append(sections, current)
				if l.words[0] == "defaults" {
					defaults = current
				}
			case current == nil:
				return nil, fmt.Errorf("%s: %s is in no section", l.place, l.words[0])
			default:
				current.lines = append(current.lines, l)
			}
		}
	}
	return sections, nil
}

// from finds the defaults of a section: those it names, or the last ones.
func from(l line, sections []*section, last *section) *section {
	for i, word := range l.words {
		if word != "from" || i+1 >= len(l.words) {
			continue
		}
		for _, s := range sections {
			if s.words[0] == "defaults" && s.name == l.words[i+1] {
				return s
			}
		}
	}
	if l.words[0] == "defaults" {
		return nil // they begin anew
	}
	return last
}

// split a line into words, as HAProxy does.
func split(text string) (words []string, err error) {
	if len(text) > importer.MaxLine {
		return nil, fmt.Errorf("the line is longer than %d bytes", importer.MaxLine)
	}
	var word strings.Builder
	inside, quote := false, byte(0)
	end := func() {
		if inside {
			words = append(words, word.String())
		}
		word.Reset()
		inside = false
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && quote != '\'' && i+1 < len(text) && text[i+1] != '\n':
			meant, more := escaped(text[i+1:])
			i += more
			word.WriteByte(meant)
			inside = true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, inside = c, true
		case quote == 0 && c == '#':
			end()
			return words, nil
		case quote == 0 && strings.IndexByte(" \t\r\n", c) >= 0:
			end()
		default:
			word.WriteByte(c)
			inside = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a %c is not closed", quote)
	}
	end()
	return words, nil
}

// escaped is what a backslash before a text stands for, and how many bytes of that it takes.
func escaped(text string) (meant byte, more int) {
	switch c := text[0]; c {
	case 't':
		return '\t', 1
	case 'r':
		return '\r', 1
	case 'n':
		return '\n', 1
	case 'x':
		if n, err := strconv.ParseUint(text[1:min(3, len(text))], 16, 8); err == nil && len(text) > 2 {
			return byte(n), 3
		}
	case ' ', '\\', '#', '\'', '"':
		return c, 1
	}
	return '\\', 0
}
