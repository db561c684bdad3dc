// Package nginx reads a hand-kept nginx configuration whose upstreams are NodePorts.
package nginx

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/external-lb/external-lb/internal/importer"
)

// directive of a configuration, with what is in its block.
type directive struct {
	place importer.Place
	name  string
	args  []string
	block []directive
}

// maxDirectives of all files.
const maxDirectives = 200_000

// parser of all files of one configuration.
type parser struct {
	include importer.Include
	notes   *importer.Notes

	bytes, files, directives int
}

// text is one file that is being read.
type text struct {
	name string
	rest string
	line int
}

// parse a file that is nested in others.
func (p *parser) parse(f importer.File, nesting int) ([]directive, error) {
	if p.bytes += len(f.Text); p.bytes > importer.MaxBytes {
		return nil, fmt.Errorf("%s: the files are larger than %d bytes together", f.Name, importer.MaxBytes)
	}
	if p.files++; p.files > importer.MaxFiles {
		return nil, fmt.Errorf("%s: there are more than %d files", f.Name, importer.MaxFiles)
	}
	t := &text{f.Name, f.Text, 1}
	list, err := p.block(t, nesting)
	if err == nil && t.rest != "" {
		err = t.errorf("a } too many")
	}
	return list, err
}

func (t *text) errorf(format string, args ...any) error {
	return fmt.Errorf("%s: %s", importer.Place{File: t.name, Line: t.line}, fmt.Sprintf(format, args...))
}

// block reads to its } or to the end of the text; the } is left.
func (p *parser) block(t *text, nesting int) ([]directive, error) {
	if nesting > importer.MaxNesting {
		return nil, t.errorf("blocks and includes are nested more than %d deep", importer.MaxNesting)
	}
	var list []directive
	for {
		d, end, err := p.directive(t, nesting)
		if err != nil || end {
			return list, err
		}
		if d.name != "include" || len(d.args) != 1 {
			list = append(list, d)
			continue
		}
		files, err := p.include(d.args[0])
		if err != nil {
			return nil, fmt.Errorf("%s: include %s: %w", d.place, d.args[0], err)
		}
		if len(files) == 0 && !strings.ContainsAny(d.args[0], "*?[") {
			p.notes.Add(d.place, "include %s: there is no such file here, so what is in it is not imported", d.args[0])
		}
		for _, f := range files {
			more, err := p.parse(f, nesting+1)
			if err != nil {
				return nil, err
			}
			list = append(list, more...)
		}
	}
}

// directive reads one, with its block.
func (p *parser) directive(t *text, nesting int) (d directive, end bool, err error) {
	if p.directives++; p.directives > maxDirectives {
		return d, false, t.errorf("there are more than %d directives", maxDirectives)
	}
	var words []string
	for {
		word, special, err := t.next()
		if err != nil {
			return d, false, err
		}
		if !special {
			if len(words) == 0 {
				d.place = importer.Place{File: t.name, Line: t.line}
			}
			words = append(words, word)
			continue
		}
		switch {
		case len(words) == 0 && (word == "" || word == "}"):
			if word == "}" {
				t.rest = "}" + t.rest
			}
			return d, true, nil
		case len(words) == 0 || word != ";" && word != "{":
			return d, false, t.errorf("unexpected %q; is a ; missing before it?", word)
		}
		d.name, d.args = words[0], words[1:]
		if word == ";" {
			return d, false, nil
		}
		return p.withBlock(t, d, nesting)
	}
}

func (p *parser) withBlock(t *text, d directive, nesting int) (directive, bool, error) {
	if strings.HasSuffix(d.name, "_by_lua_block") {
		return d, false, t.errorf("%s: blocks of Lua cannot be read; take it out of a copy", d.name)
	}
	block, err := p.block(t, nesting+1)
	if err != nil {
		return d, false, err
	}
	if t.rest == "" {
		return d, false, fmt.Errorf("%s: the } of %s is missing", d.place, d.name)
	}
	t.rest = t.rest[1:]
	d.block = block
	return d, false, nil
}

// next word of the text. Special ones are ; { } and, at the end, "".
func (t *text) next() (word string, special bool, err error) {
	for t.rest != "" {
		switch c := t.rest[0]; c {
		case '\n':
			t.line++
			t.rest = t.rest[1:]
		case ' ', '\t', '\r':
			t.rest = t.rest[1:]
		case '#':
			_, t.rest, _ = strings.Cut(t.rest, "\n")
			t.line++
		case ';', '{', '}':
			t.rest = t.rest[1:]
			return string(c), true, nil
		case '"', '\'':
			return t.quoted(c)
		default:
			return t.bare()
		}
	}
	return "", true, nil
}

func (t *text) quoted(quote byte) (string, bool, error) {
	var word strings.Builder
	for i := 1; i < len(t.rest); i++ {
		c := t.rest[i]
		switch {
		case c == quote:
			t.line += strings.Count(t.rest[:i], "\n")
			t.rest = t.rest[i+1:]
			return word.String(), false, nil
		case c == '\\' && i+1 < len(t.rest) && (t.rest[i+1] == quote || t.rest[i+1] == '\\'):
			i++
			word.WriteByte(t.rest[i])
		default:
			word.WriteByte(c)
		}
		if word.Len() > importer.MaxLine {
			break
		}
	}
	return "", false, t.errorf("a %c is not closed", quote)
}

func (t *text) bare() (string, bool, error) {
	i := 0
	for i < len(t.rest) && strings.IndexByte(" \t\r\n;{", t.rest[i]) < 0 {
		if two := t.rest[i:]; len(two) > 1 && (two[0] == '\\' && two[1] != '\n' || strings.HasPrefix(two, "${")) {
			i++
		}
		i++
	}
	word := t.rest[:i]
	t.rest = t.rest[i:]
	if len(word) > importer.MaxLine {
		return "", false, t.errorf("a word is longer than %d bytes", importer.MaxLine)
	}
	return word, false, nil
}

var header = regexp.MustCompile(`(?m)^# configuration file (/.*):$`)

// split takes the output of `nginx -T` apart, which has all files in it. The first is the main
// one.
func split(dump string) []importer.File {
	var files []importer.File
	headers := header.FindAllStringSubmatchIndex(dump, -1)
	for i, h := range headers {
		end := len(dump)
		if i+1 < len(headers) {
			end = headers[i+1][0]
		}
		files = append(files, importer.File{Name: dump[h[2]:h[3]], Text: strings.TrimPrefix(dump[h[1]:end], "\n")})
	}
	return files
}

// among finds included files among those of a dump.
func among(files []importer.File) importer.Include {
	dir := path.Dir(files[0].Name)
	return func(pattern string) (found []importer.File, err error) {
		if !path.IsAbs(pattern) {
			pattern = path.Join(dir, pattern)
		}
		for _, f := range files[1:] {
			if ok, err := path.Match(pattern, f.Name); ok && err == nil {
				found = append(found, f)
			}
		}
		return found, nil
	}
}
