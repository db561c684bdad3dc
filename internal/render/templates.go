package render

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/external-lb/external-lb/internal/engine"
)

// The templates from which files are made. The others are for parts of them.
const (
	serviceTemplate = "service.conf.tmpl"
	mainTemplate    = "main.conf.tmpl"
	httpTemplate    = "http.conf.tmpl" // of what a Service has in a file of its own for HTTP
)

// BuiltIn are the templates of an engine, by name.
func BuiltIn(e *engine.Engine) (map[string]string, error) {
	entries, err := fs.ReadDir(e.Templates, ".")
	if err != nil {
		return nil, fmt.Errorf("read the built-in templates of %s: %w", e, err)
	}
	all := make(map[string]string, len(entries))
	for _, entry := range entries {
		text, err := fs.ReadFile(e.Templates, entry.Name())
		if err != nil {
			return nil, err
		}
		all[entry.Name()] = string(text)
	}
	return all, nil
}

// TemplateError is a custom template that cannot be used.
type TemplateError struct {
	Name   string // of the template, or of several of which one is at fault
	Line   int    // 0: none
	Reason string
}

func (e *TemplateError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("%s:%d: %s", e.Name, e.Line, e.Reason)
	}
	return e.Name + ": " + e.Reason
}

// parseBuiltIn parses the templates of an engine.
func parseBuiltIn(e *engine.Engine) (*template.Template, error) {
	parsed, err := template.New("").Option("missingkey=error").ParseFS(e.Templates, "*.tmpl")
	if err != nil {
		return nil, fmt.Errorf("parse the built-in templates of %s: %w", e, err)
	}
	return parsed, nil
}

// replaceTemplates puts custom templates in the place of built-in ones. The error
// joins a *TemplateError for each that cannot be used.
func replaceTemplates(builtIn *template.Template, custom map[string]string) (*template.Template, error) {
	all, err := builtIn.Clone()
	if err != nil {
		return nil, err
	}
	var failed []error
	for _, name := range slices.Sorted(maps.Keys(custom)) {
		if len(failed) == problemsTold {
			break
		}
		if builtIn.Lookup(name) == nil {
			failed = append(failed, &TemplateError{Name: name, Reason: "there is no such template to replace, only " + strings.Join(templateNames(builtIn), ", ")})
			continue
		}
		if err := replaceTemplate(all, builtIn, name, custom[name]); err != nil {
			failed = append(failed, err)
		}
	}
	return all, errors.Join(failed...)
}

func replaceTemplate(all, builtIn *template.Template, name, text string) error {
	// By itself: what does not parse must not be left half replaced.
	parsed, err := template.New(name).Parse(text)
	if err != nil {
		return templateError(name, err)
	}
	for _, t := range parsed.Templates() {
		if t.Name() != name && builtIn.Lookup(t.Name()) != nil {
			return &TemplateError{Name: name, Reason: fmt.Sprintf("defines %s, which is replaced by a key of that name", t.Name())}
		}
		if was := all.Lookup(t.Name()); was != nil {
			was.Tree = t.Tree // also an empty one, which prints nothing
		} else if _, err := all.AddParseTree(t.Name(), t.Tree); err != nil {
			return templateError(name, err)
		}
	}
	return nil
}

func templateNames(t *template.Template) []string {
	var names []string
	for _, t := range t.Templates() {
		if t.Name() != "" {
			names = append(names, t.Name())
		}
	}
	slices.Sort(names)
	return names
}

// reasonMax bounds what is told of one mistake: it may quote the template.
const reasonMax = 500

var (
	position  = regexp.MustCompile(`^template: ?([^:]*):(\d+)(?::\d+)?: (?s:(.*))$`)
	execution = regexp.MustCompile(`^executing "[^"]*" at `)
	typeNames = regexp.MustCompile(` (?:in|for) type \*?[a-z]+\.\w+`)
)

// templateError puts what text/template says of a template into our words.
func templateError(name string, err error) *TemplateError {
	words := strings.ToValidUTF8(err.Error()[:min(len(err.Error()), reasonMax)], "?")
	m := position.FindStringSubmatch(words)
	if m == nil {
		return &TemplateError{Name: name, Reason: words}
	}
	line, _ := strconv.Atoi(m[2]) // digits
	reason := typeNames.ReplaceAllString(execution.ReplaceAllString(m[3], ""), "")
	return &TemplateError{Name: cmp.Or(m[1], name), Line: line, Reason: reason}
}

// A template may print this much more than the built-in one does.
const (
	roomBytes  = 1 << 20
	roomFactor = 16
)

var errTooLong = errors.New("prints without end")

// bounded takes so many bytes and no more: a template can print without end.
type bounded struct {
	bytes.Buffer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errTooLong
	}
	return b.Buffer.Write(p)
}

// customized is what custom templates make of something, if it says all that it
// must: what the built-in ones say of it.
func (r *Renderer) customized(name string, data any, builtIn []byte) ([]byte, *TemplateError) {
	out := bounded{left: roomBytes + roomFactor*len(builtIn)}
	if err := r.custom.ExecuteTemplate(&out, name, data); err != nil {
		if errors.Is(err, errTooLong) {
			return nil, &TemplateError{Name: r.replaced, Reason: errTooLong.Error()}
		}
		return nil, templateError(name, err)
	}
	text := out.Bytes()
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n') // another file may follow
	}
	if difference := r.engine.Facts(builtIn).Against(r.engine.Facts(text)); difference != "" {
		return nil, &TemplateError{Name: r.replaced, Reason: difference}
	}
	return slices.Clip(text), nil
}
