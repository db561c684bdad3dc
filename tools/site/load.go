package main

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/text"
)

const (
	docs  = "docs"
	index = docs + "/README.md" // the start page
	front = "README.md"         // says what this is
)

// beside are pages that are not below docs.
var beside = []string{"*.md", "test/README.md", "charts/*/README.md"}

// markdown is GitHub's. Raw HTML is our own.
var markdown = goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithRendererOptions(html.WithXHTML(), html.WithUnsafe()))

// site is a repository's pages by their paths there.
type site struct {
	repository fs.FS
	pages      map[string]*page
	lead       *page           // what the start page begins with: what the front page begins with
	files      map[string]bool // images, and what else is linked
}

type page struct {
	source, target string // where it is in the repository, and on the site
	text           []byte
	root           ast.Node
	title          string
	headings       []heading
}

type heading struct {
	Level    int
	ID, Text string
}

func (p *page) has(id string) bool {
	return slices.ContainsFunc(p.headings, func(h heading) bool { return h.ID == id })
}

func load(repository fs.FS) (*site, error) {
	s := &site{repository: repository, pages: map[string]*page{}, files: map[string]bool{}}
	names, err := find(repository)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := fs.ReadFile(repository, name)
		if err != nil {
			return nil, err
		}
		s.pages[name] = parse(name, text)
	}
	for _, name := range []string{front, index} {
		if s.pages[name] == nil {
			return nil, fmt.Errorf("there is no %s", name)
		}
	}
	s.lead = leadOf(s.pages[front])
	for _, name := range names {
		if dir := path.Dir(name); strings.HasPrefix(dir, docs+"/") && s.pages[dir] == nil {
			s.pages[dir] = s.list(dir, names)
		}
	}
	return s, nil
}

// find lists the pages, sorted.
func find(repository fs.FS) ([]string, error) {
	var names []string
	for _, pattern := range beside {
		found, err := fs.Glob(repository, pattern)
		if err != nil {
			return nil, err
		}
		names = append(names, found...)
	}
	err := fs.WalkDir(repository, docs, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && path.Ext(name) == ".md" {
			names = append(names, name)
		}
		return err
	})
	slices.Sort(names)
	return names, err
}

// list is a page for a directory that has none.
func (s *site) list(dir string, names []string) *page {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s%s\n\n", strings.ToUpper(path.Base(dir)[:1]), path.Base(dir)[1:])
	for _, name := range names {
		if path.Dir(name) == dir {
			fmt.Fprintf(&b, "- [%s](%s)\n", s.pages[name].title, path.Base(name))
		}
	}
	return parse(dir+"/README.md", []byte(b.String()))
}

// targetOf is where a file of the repository is on the site.
func targetOf(name string) string {
	if name == index {
		return "index.html"
	}
	below, ok := strings.CutPrefix(name, docs+"/")
	if !ok {
		below = "project/" + name
	}
	page, ok := strings.CutSuffix(below, ".md")
	if !ok {
		return below
	}
	if dir, ok := strings.CutSuffix(page, "/README"); ok && dir != "project" {
		return dir + "/index.html"
	}
	return strings.ToLower(page) + ".html"
}

func parse(name string, source []byte) *page {
	p := &page{source: name, target: targetOf(name), text: source, title: name}
	p.root = markdown.Parser().Parse(text.NewReader(source))
	taken := map[string]bool{}
	for n := range descendants(p.root) {
		h, ok := n.(*ast.Heading)
		if !ok {
			continue
		}
		words := textOf(h, source)
		if h.Level == 1 && len(p.headings) == 0 {
			p.title = words
		}
		id := anchor(words)
		for n := 1; taken[id]; n++ { // as GitHub numbers headings that are alike
			id = fmt.Sprintf("%s-%d", anchor(words), n)
		}
		taken[id] = true
		h.SetAttributeString("id", []byte(id))
		p.headings = append(p.headings, heading{h.Level, id, words})
	}
	return p
}

// leadOf is a page up to its first picture of text, list or heading.
func leadOf(p *page) *page {
	lead := parse(p.source, p.text)
	lead.target = targetOf(index)
	next := lead.root.FirstChild()
	if next != nil && next.Kind() == ast.KindHeading {
		next = next.NextSibling()
	}
	for next != nil && next.Kind() == ast.KindParagraph {
		next = next.NextSibling()
	}
	for next != nil {
		n := next
		next = next.NextSibling()
		lead.root.RemoveChild(lead.root, n)
	}
	return lead
}
