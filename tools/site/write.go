package main

import (
	"bytes"
	_ "embed"
	"errors"
	"html/template"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/yuin/goldmark/ast"
)

var (
	//go:embed page.html
	layoutText string
	//go:embed style.css
	style []byte

	layout = template.Must(template.New("page").Parse(layoutText))
)

// view is what the layout shows.
type view struct {
	Title, Root, Source string
	Contents            []heading
	Body                template.HTML
}

func (s *site) write(dir string) error {
	for name, p := range s.pages {
		html, err := s.html(name, p)
		if err == nil {
			err = put(dir, p.target, html)
		}
		if err != nil {
			return err
		}
	}
	for name := range s.files {
		data, err := fs.ReadFile(s.repository, name)
		if err == nil {
			err = put(dir, targetOf(name), data)
		}
		if err != nil {
			return err
		}
	}
	return put(dir, "style.css", style)
}

func put(dir, name string, data []byte) error {
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

func (s *site) html(name string, p *page) ([]byte, error) {
	v := view{Title: p.title, Source: home + "/blob/main/" + name, Root: relative(p, ".") + "/"}
	var body, out bytes.Buffer
	var err error
	if name == index {
		v.Title = s.lead.title
		err = markdown.Renderer().Render(&body, s.lead.text, s.lead.root)
		demote(p.root)
	} else {
		v.Contents = contents(p)
	}
	err = errors.Join(err, markdown.Renderer().Render(&body, p.text, p.root))
	v.Body = template.HTML(body.String()) // of our own files
	err = errors.Join(err, layout.Execute(&out, v))
	return out.Bytes(), err
}

// demote makes a title a heading like others, below that of the lead.
func demote(root ast.Node) {
	for n := range descendants(root) {
		if h, ok := n.(*ast.Heading); ok && h.Level == 1 {
			h.Level++
		}
	}
}

// contents are the sections of a page that has several.
func contents(p *page) (sections []heading) {
	for _, h := range p.headings {
		if h.Level == 2 {
			sections = append(sections, h)
		}
	}
	if len(sections) < 3 {
		return nil
	}
	return sections
}
