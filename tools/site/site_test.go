package main

import (
	"encoding/xml"
	"errors"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"strings"
	"testing"
	"testing/fstest"
)

// document is what a test looks at of a page of the site.
type document struct {
	ids    map[string]bool
	links  []string
	loads  []string // what a browser fetches by itself
	wrong  []string
	images int
}

// read takes a page apart. It is XML, too, so a tag that is not closed is found.
func read(t *testing.T, site fs.FS, name string) document {
	t.Helper()
	file, err := site.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	d := document{ids: map[string]bool{}}
	decoder := xml.NewDecoder(file)
	decoder.Entity = xml.HTMLEntity
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return d
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if start, ok := token.(xml.StartElement); ok {
			d.see(start)
		}
	}
}

func (d *document) see(element xml.StartElement) {
	attribute := map[string]string{}
	for _, a := range element.Attr {
		attribute[a.Name.Local] = a.Value
	}
	if id := attribute["id"]; id != "" {
		if d.ids[id] {
			d.wrong = append(d.wrong, "two elements are "+id)
		}
		d.ids[id] = true
	}
	switch element.Name.Local {
	case "a":
		d.links = append(d.links, attribute["href"])
	case "img":
		d.images++
		d.loads = append(d.loads, attribute["src"])
		if attribute["alt"] == "" {
			d.wrong = append(d.wrong, attribute["src"]+" says nothing to who cannot see it")
		}
	case "link":
		d.loads = append(d.loads, attribute["href"])
	case "script", "style", "iframe", "object", "video":
		d.wrong = append(d.wrong, "it has a "+element.Name.Local)
	}
}

// Every link of every page that people read leads somewhere, to a heading that is there
// where it names one. The site needs nothing from elsewhere.
func TestTheDocumentation(t *testing.T) {
	dir := t.TempDir()
	if err := build(os.DirFS("../.."), dir); err != nil {
		t.Fatal(err)
	}
	site, pages, images := os.DirFS(dir), map[string]document{}, 0
	err := fs.WalkDir(site, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && path.Ext(name) == ".html" {
			pages[name] = read(t, site, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range pages {
		for _, wrong := range d.wrong {
			t.Errorf("%s: %s", name, wrong)
		}
		for _, link := range append(d.links, d.loads...) {
			checkLink(t, site, pages, name, link)
		}
		for _, load := range d.loads {
			if u, err := url.Parse(load); err != nil || u.IsAbs() || u.Host != "" {
				t.Errorf("%s loads %s", name, load)
			}
		}
		images += d.images
	}
	if len(pages) < 50 || images < 3 {
		t.Errorf("%d pages with %d images", len(pages), images)
	}
}

func checkLink(t *testing.T, site fs.FS, pages map[string]document, from, link string) {
	t.Helper()
	u, err := url.Parse(link)
	if err != nil {
		t.Errorf("%s links to %q: %v", from, link, err)
		return
	}
	if u.IsAbs() {
		return
	}
	name := from
	if u.Path != "" {
		name = path.Join(path.Dir(from), u.Path)
	}
	if info, err := fs.Stat(site, name); err != nil || info.IsDir() {
		t.Errorf("%s links to %q, which is not on the site", from, link)
	}
	if u.Fragment != "" && !pages[name].ids[u.Fragment] {
		t.Errorf("%s links to %q: no such heading", from, link)
	}
}

// small is a repository that holds what every one must.
func small(more map[string]string) fstest.MapFS {
	files := fstest.MapFS{
		"README.md":               {Data: []byte("# external-lb\n\nBalances, [as said](docs/a.md).\n\n```\npicture\n```\n")},
		"docs/README.md":          {Data: []byte("# Documentation\n\n## I run it\n\n[a](a.md)\n")},
		"docs/a.md":               {Data: []byte("# A\n\n## What is `x`, and \\_y\\_?\n\n## Twice\n\n## Twice\n")},
		"docs/design/0001-one.md": {Data: []byte("# One\n")},
		"docs/images/a.png":       {Data: []byte("png")},
		"api/types.go":            {Data: []byte("package api\n")},
	}
	for name, text := range more {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return files
}

func TestLinks(t *testing.T) {
	for link, want := range map[string]string{
		"a.md":                     `href="a.html"`,
		"a.md#what-is-x-and-_y_":   `href="a.html#what-is-x-and-_y_"`,
		"a.md#twice-1":             `href="a.html#twice-1"`,
		"#here":                    `href="#here"`,
		"README.md":                `href="index.html"`,
		"../README.md#external-lb": `href="project/readme.html#external-lb"`,
		"design":                   `href="design/index.html"`,
		"images/a.png":             `href="images/a.png"`,
		"../api/types.go#L1":       `href="https://github.com/external-lb/external-lb/blob/main/api/types.go"`,
		"../api":                   `href="https://github.com/external-lb/external-lb/tree/main/api"`,
		"https://example.org/#x":   `href="https://example.org/#x"`,
	} {
		dir := t.TempDir()
		if err := build(small(map[string]string{"docs/b.md": "# B\n\n## Here\n\n[link](" + link + ")\n"}), dir); err != nil {
			t.Errorf("%s: %v", link, err)
			continue
		}
		page, err := os.ReadFile(dir + "/b.html")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(page), want) {
			t.Errorf("%s: want %s in\n%s", link, want, page)
		}
	}
}

func TestLinks_ThatLeadNowhere(t *testing.T) {
	for _, link := range []string{
		"c.md", "a.md#three", "a.md#Twice", "a.md#twice-2", "#there", "../docs/none", "../../outside.md", "/docs/a.md", "images/b.png",
	} {
		text := "[link](" + link + ")"
		for name, source := range map[string]string{
			"a page": "# B\n\n" + text + "\n", "a table": "| a |\n|---|\n| " + text + " |\n", "an image": "!" + text + "\n",
		} {
			err := build(small(map[string]string{"docs/b.md": source}), t.TempDir())
			if err == nil || !strings.Contains(err.Error(), "docs/b.md links to "+link) {
				t.Errorf("%s in %s: %v", link, name, err)
			}
		}
	}
}

// What looks like a link in code is none.
func TestLinks_InCodeAreNone(t *testing.T) {
	source := "`[a](none.md)`\n\n```md\n[a](none.md)\n```\n"
	if err := build(small(map[string]string{"docs/b.md": source}), t.TempDir()); err != nil {
		t.Error(err)
	}
}

// The start page says what this is, then where to go.
func TestTheStartPage(t *testing.T) {
	dir := t.TempDir()
	if err := build(small(nil), dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(dir + "/index.html")
	if err != nil {
		t.Fatal(err)
	}
	rest := string(text)
	for _, want := range []string{
		"<h1 id=\"external-lb\">", `Balances, <a href="a.html">`, "<h2 id=\"documentation\">", "<h2 id=\"i-run-it\">",
	} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Errorf("want %s in\n%s", want, rest)
		}
		rest = after
	}
	if strings.Contains(string(text), "picture") {
		t.Errorf("the lead goes on:\n%s", text)
	}
}
