package render

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

// Renderer makes the files of one engine. It is not changed once made.
type Renderer struct {
	engine   *engine.Engine
	builtIn  *template.Template
	custom   *template.Template // nil: none
	replaced string             // names of the templates that are custom
	plain    lb.Sum             // of the built-in templates
	sum      lb.Sum             // of all templates
	share    int                // connections that each Service may have; 0: no limit
}

// File is one file of a configuration.
type File struct {
	Path string
	// Key of the item that the file carries; "": it stands for the whole.
	Key lb.Key
	// From changes with whatever the file is made of, but for the Renderer.
	From lb.Sum
	// Listens are the sockets that the daemon opens for the file.
	Listens []fileset.Socket
	// Fragment can be left out without harm to the others. Private is for nobody but the
	// host's account and root.
	Fragment, Private bool
	Make              func() (Made, error)
}

// Made is the content of a File.
type Made struct {
	Data []byte
	View []byte // what was printed, as JSON; none where the engine keeps none
	// Problem is why a template of the owner's could not be used, so that the built-in
	// one made it.
	Problem *TemplateError
}

// New makes a Renderer with the built-in templates of an engine.
func New(e *engine.Engine) (*Renderer, error) {
	builtIn, err := parseBuiltIn(e)
	if err != nil {
		return nil, err
	}
	texts, err := BuiltIn(e)
	if err != nil {
		return nil, err
	}
	return &Renderer{engine: e, builtIn: builtIn, plain: sumOf(texts), sum: sumOf(texts)}, nil
}

// With returns a Renderer in which some built-in templates are replaced by others, by
// name, whatever those of this one are. They are tried on samples; if they cannot be used, the error joins a
// *TemplateError for each thing that is wrong.
func (r *Renderer) With(custom map[string]string) (*Renderer, error) {
	next := &Renderer{engine: r.engine, builtIn: r.builtIn, plain: r.plain, sum: r.plain, share: r.share}
	if len(custom) == 0 {
		return next, nil
	}
	var err error
	if next.custom, err = replaceTemplates(r.builtIn, custom); err != nil {
		return nil, err
	}
	next.replaced = strings.Join(slices.Sorted(maps.Keys(custom)), ", ")
	own := sumOf(custom)
	next.sum = sha256.Sum256(append(r.plain[:], own[:]...))
	return next, next.try()
}

// Sharing returns a Renderer with which each Service may have so many connections. 0: no limit.
func (r *Renderer) Sharing(connections int) *Renderer {
	next := *r
	next.share = connections
	return &next
}

// Custom reports whether some templates are not the built-in ones.
func (r *Renderer) Custom() bool { return r.custom != nil }

// Sum changes with the templates.
func (r *Renderer) Sum() lb.Sum { return r.sum }

func sumOf(texts map[string]string) lb.Sum {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		fmt.Fprintf(h, "%s %d\n%s", name, len(texts[name]), texts[name])
	}
	return lb.Sum(h.Sum(nil))
}

// Files are those of a Config: one or two for each Service, one for each certificate that a
// Service shows, and the one that stands for the whole. sum tells of which bytes an
// item of the Config was read. A Service that the engine cannot carry has none, and
// is refused.
func (r *Renderer) Files(cfg *lb.Config, sum func(lb.Key) lb.Sum) (files []File, refused []lb.Refusal) {
	return r.FilesAfter(&Memory{}, cfg, sum)
}

// FilesAfter are Files: what a Memory has of the last time is not worked out again.
func (r *Renderer) FilesAfter(last *Memory, cfg *lb.Config, sum func(lb.Key) lb.Sum) (files []File, refused []lb.Refusal) {
	last.look(r, cfg)
	shared := map[engine.Shared]bool{}
	shown := map[string]bool{}
	for _, s := range cfg.Services {
		one := last.service(r, s, sum)
		if one.err != nil {
			refused = append(refused, lb.Refusal{Key: one.key, Reason: lb.RefusedByEngine, Message: one.err.Error()})
			continue
		}
		for _, need := range one.needs {
			shared[need] = true
		}
		for i := range s.Frontends {
			if name := s.Frontends[i].Settings.Certificate; name != "" {
				shown[name] = true
			}
		}
		files = append(files, one.files...)
	}
	for _, c := range cfg.Certificates {
		if shown[c.Name()] {
			key := lb.CertificateKey(c.Name())
			files = append(files, certificate(c, key, sum(key)))
		}
	}
	return append(files, r.main(slices.Collect(maps.Keys(shared)))), refused
}

// fromOf changes with what the file of a Service is made of.
func fromOf(s *lb.Service, item, nodes lb.Sum) lb.Sum {
	h := sha256.New()
	h.Write(item[:]) // never fails
	h.Write(nodes[:])
	for _, f := range s.Frontends { // some of the item's may be left out
		fmt.Fprintln(h, f.Listener)
	}
	return lb.Sum(h.Sum(nil))
}

// service are the files of a Service, and what it needs in the main file.
func (r *Renderer) service(resolve func() *engine.Service) ([]File, []engine.Shared, error) {
	s := resolve()
	v, err := r.engine.View(s)
	if err != nil {
		return nil, nil, err
	}
	files := []File{r.fragment(engine.Path(s.ID), serviceTemplate, v.Listens, resolve, func(v engine.View) any { return v.Data })}
	if v.HTTP != nil {
		files = append(files, r.fragment(engine.HTTPPath(s.ID), httpTemplate, v.HTTP.Listens, resolve, func(v engine.View) any { return v.HTTP.Data }))
	}
	return files, v.Shared, nil
}

// resolve finds the nodes of a Service, for the engine and as the host's owner bounds it.
func (r *Renderer) resolve(s *lb.Service, nodes *engine.Nodes) *engine.Service {
	out := engine.Resolve(s, nodes)
	out.MaxConnections = r.share
	if r.engine.Backups.Missing != "" {
		out = out.AllInFront()
	}
	if r.engine.KeepsConnections {
		return out.Kept()
	}
	return out
}

// fragment is a file of a Service, of what a template prints of its view.
func (r *Renderer) fragment(path, template string, listens []fileset.Socket, resolve func() *engine.Service, data func(engine.View) any) File {
	return File{Path: path, Listens: listens, Fragment: true, Make: func() (Made, error) {
		v, err := r.engine.View(resolve()) // once more: all views at once would be Services x nodes
		if err != nil {
			return Made{}, err
		}
		return r.made(template, data(v))
	}}
}

func certificate(c *lb.Certificate, key lb.Key, sum lb.Sum) File {
	return File{
		Path: engine.CertificatePath(c.Name()), Key: key, From: sum, Private: true,
		Make: func() (Made, error) { return Made{Data: c.PEM()}, nil },
	}
}

// main is the file that stands for the whole.
func (r *Renderer) main(shared []engine.Shared) File {
	m, err := r.made(mainTemplate, r.engine.Main(shared))
	return File{
		Path: engine.MainPath, From: sha256.Sum256(slices.Concat(m.Data, m.View)),
		Make: func() (Made, error) { return m, err },
	}
}

// made is what a template prints, kept with what it was given where the engine says so.
func (r *Renderer) made(name string, data any) (m Made, err error) {
	if m.Data, m.Problem, err = r.execute(name, data); err == nil && r.engine.Keeps && data != nil {
		m.View, err = json.Marshal(data)
	}
	return m, err
}

// Set makes all files of a Config at once. The problems are those of templates that
// could not be used for some.
func (r *Renderer) Set(cfg *lb.Config) (set *fileset.Set, refused []lb.Refusal, problems []error, err error) {
	files, refused := r.Files(cfg, func(lb.Key) lb.Sum { return lb.Sum{} })
	set, problems, err = Collect(files)
	return set, refused, problems, err
}

// Collect makes files.
func Collect(files []File) (set *fileset.Set, problems []error, err error) {
	var made []fileset.File
	for _, f := range files {
		m, err := f.Make()
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", f.Path, err)
		}
		if m.Problem != nil {
			problems = append(problems, fmt.Errorf("%s: %w", f.Path, m.Problem))
		}
		file, err := fileset.NewFile(f.Path, m.Data)
		if err != nil {
			return nil, nil, err
		}
		file.Fragment, file.Private, file.Listens = f.Fragment, f.Private, f.Listens
		made = append(made, file)
	}
	set, err = fileset.New(made...)
	return set, problems, err
}

// execute a template, or the built-in one if that of the same name cannot be used
// for this: then the second result says why.
func (r *Renderer) execute(name string, data any) ([]byte, *TemplateError, error) {
	var out bytes.Buffer
	if err := r.builtIn.ExecuteTemplate(&out, name, data); err != nil {
		return nil, nil, err
	}
	builtIn := slices.Clip(out.Bytes())
	if r.custom == nil {
		return builtIn, nil, nil
	}
	text, problem := r.customized(name, data, builtIn)
	if problem != nil {
		return builtIn, problem, nil
	}
	return text, nil, nil
}
