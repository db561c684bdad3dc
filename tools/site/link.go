package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/yuin/goldmark/ast"
)

// home has what is no page.
const home = "https://github.com/external-lb/external-lb"

// link makes every link of every page one of the site. It tells all that lead nowhere.
func (s *site) link() error {
	var wrong []error
	pages := slices.AppendSeq([]*page{s.lead}, maps.Values(s.pages))
	slices.SortFunc(pages, func(a, b *page) int { return strings.Compare(a.source, b.source) })
	for _, p := range pages {
		for n := range descendants(p.root) {
			to := destination(n)
			if to == nil {
				continue
			}
			resolved, err := s.resolve(p, string(*to))
			if err != nil {
				wrong = append(wrong, fmt.Errorf("%s links to %s: %w", p.source, *to, err))
				continue
			}
			*to = []byte(resolved)
		}
	}
	return errors.Join(wrong...)
}

// destination is where a node leads, or nil.
func destination(n ast.Node) *[]byte {
	switch n := n.(type) {
	case *ast.Link:
		return &n.Destination
	case *ast.Image:
		return &n.Destination
	}
	return nil
}

// resolve is what a link of a page is on the site.
func (s *site) resolve(from *page, link string) (string, error) {
	u, err := url.Parse(link)
	if err != nil || u.IsAbs() || u.Host != "" {
		return link, err
	}
	name := from.source
	if u.Path != "" {
		name = path.Join(path.Dir(from.source), u.Path)
	}
	to := s.pages[name]
	if to == nil {
		return s.file(from, name)
	}
	switch {
	case u.Fragment == "":
		return relative(from, to.target), nil
	case !to.has(u.Fragment):
		return "", errors.New("no such heading")
	case to.target == from.target:
		return "#" + u.Fragment, nil
	}
	return relative(from, to.target) + "#" + u.Fragment, nil
}

// file is what a link to a file that is no page is on the site.
func (s *site) file(from *page, name string) (string, error) {
	if !fs.ValidPath(name) {
		return "", errors.New("outside of the repository")
	}
	info, err := fs.Stat(s.repository, name)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(name, docs+"/") && !info.IsDir() {
		s.files[name] = true
		return relative(from, targetOf(name)), nil
	}
	kind := "blob"
	if info.IsDir() {
		kind = "tree"
	}
	return home + "/" + kind + "/main/" + name, nil
}

// relative is the way from a page to a path of the site.
func relative(from *page, target string) string {
	way, err := filepath.Rel(path.Dir(from.target), target)
	if err != nil {
		panic(err) // both are relative
	}
	return filepath.ToSlash(way)
}
