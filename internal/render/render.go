package render

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"

	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

// MainPath is the path of the file that stands for the whole set.
const MainPath = "main.conf"

const (
	prefix = "services/"
	suffix = ".conf"
)

// Path of the fragment that carries a Service. Two Services never share one, not
// even one that is deleted and made again under its name.
func Path(id lb.ID) string {
	return prefix + id.Namespace + "." + id.Name + "." + id.UID + suffix
}

// ParsePath finds the Service that a fragment carries.
func ParsePath(path string) (lb.ID, bool) {
	name, isService := strings.CutPrefix(path, prefix)
	name, isConf := strings.CutSuffix(name, suffix)
	parts := strings.Split(name, ".")
	if !isService || !isConf || len(parts) != 3 {
		return lb.ID{}, false
	}
	id, err := lb.NewID(parts[0], parts[1], parts[2])
	return id, err == nil
}

// ServiceError is a Service that cannot be rendered, or not by the templates that it
// should be.
type ServiceError struct {
	ID  lb.ID
	Err error
}

func (e *ServiceError) Error() string { return fmt.Sprintf("Service %s: %v", e.ID, e.Err) }

func (e *ServiceError) Unwrap() error { return e.Err }

// engine is how the model becomes the files of one engine.
type engine struct {
	service func(*lb.Service) (view, error)
	main    func(checks map[nodeCheck]int) any // data of the main file
	facts   func(file []byte) facts
}

var engines = map[lb.Engine]engine{
	lb.Nginx:   {newNginxService, func(map[nodeCheck]int) any { return nil }, nginxFacts},
	lb.HAProxy: {newHAProxyService, haproxyMain, haproxyFacts},
	lb.LVS:     {newLVSService, func(map[nodeCheck]int) any { return nil }, lvsFacts},
}

// view is what a template prints of a Service, and what it needs beside that.
type view struct {
	data    any
	listens []fileset.Socket
	checks  []nodeCheck // that all Services share
}

// Renderer renders the Configs of one Balancer, one after the other. It keeps
// what it made of the Services of the last one. Not for concurrent use.
type Renderer struct {
	engine    engine
	builtIn   *template.Template
	custom    *template.Template // nil: none
	replaced  string             // names of the templates that are custom
	main      fileset.File
	problem   *TemplateError            // why the main file is made by the built-in templates
	checks    map[nodeCheck]int         // in the main file, with the number of Services that need each
	fragments map[*lb.Service]*fragment // of the last Config
	services  []*lb.Service             // of the last Config
	vrrp      bool                      // of the last Config
	set       *fileset.Set              // of the last Config, if all of it could be rendered
}

// fragment is the file of a Service, and what it needs beside that.
type fragment struct {
	file         fileset.File
	checks       []nodeCheck
	certificates []fileset.File
	problem      *TemplateError // why it is made by the built-in templates
}

// New makes a Renderer for an engine.
func New(name lb.Engine) (*Renderer, error) {
	e, ok := engines[name]
	if !ok {
		return nil, fmt.Errorf("no templates for the engine %q", name)
	}
	builtIn, err := parseBuiltIn(name)
	if err != nil {
		return nil, err
	}
	r := &Renderer{engine: e, builtIn: builtIn, checks: map[nodeCheck]int{}}
	return r, r.renderMain()
}

// Use replaces built-in templates by name, and puts those back that it replaced
// before. They are tried on samples; if they cannot be used, the error joins a
// *TemplateError for each thing that is wrong, and those before stay in use.
func (r *Renderer) Use(custom map[string]string) error {
	next := &Renderer{engine: r.engine, builtIn: r.builtIn, checks: map[nodeCheck]int{}}
	if len(custom) > 0 {
		var err error
		if next.custom, err = replaceTemplates(r.builtIn, custom); err != nil {
			return err
		}
		next.replaced = strings.Join(slices.Sorted(maps.Keys(custom)), ", ")
		if err := next.try(); err != nil {
			return err
		}
	}
	if err := next.renderMain(); err != nil {
		return err
	}
	*r = *next
	return nil
}

func (r *Renderer) renderMain() (err error) {
	r.main, r.problem, err = r.mainFile(r.checks)
	return err
}

func (r *Renderer) mainFile(checks map[nodeCheck]int) (fileset.File, *TemplateError, error) {
	data, problem, err := r.execute(mainTemplate, r.engine.main(checks))
	if err != nil {
		return fileset.File{}, nil, err
	}
	file, err := fileset.NewFile(MainPath, data)
	return file, problem, err
}

// Render makes the files of a Config. A Service that is the same pointer as last
// time is not rendered again. A Service that cannot be rendered blocks no other:
// the Set is there and lacks it, and the error joins one *ServiceError for each.
// What custom templates cannot make, the built-in ones do: the Set has it, and
// the error joins a *TemplateError, for a Service within its *ServiceError.
func (r *Renderer) Render(cfg *lb.Config) (*fileset.Set, error) {
	vrrp := cfg.VRRP != nil
	if r.set != nil && r.vrrp == vrrp && slices.Equal(r.services, cfg.Services) {
		return r.set, nil
	}
	var failed []error
	changed := false
	fragments := make(map[*lb.Service]*fragment, len(cfg.Services))
	files := append(make([]fileset.File, 0, len(cfg.Services)+1), fileset.File{})
	for _, s := range cfg.Services {
		f, known := r.fragments[s]
		if !known {
			var err error
			if f, err = r.fragment(s); err != nil {
				failed = append(failed, &ServiceError{ID: s.ID, Err: err})
				continue
			}
			changed = r.count(f.checks, 1) || changed
		}
		if f.problem != nil {
			failed = append(failed, &ServiceError{ID: s.ID, Err: f.problem})
		}
		fragments[s] = f
		files = append(files, f.file)
	}
	for s, f := range r.fragments {
		if _, kept := fragments[s]; !kept {
			changed = r.count(f.checks, -1) || changed
		}
	}
	r.fragments, r.services, r.vrrp, r.set = fragments, slices.Clone(cfg.Services), vrrp, nil
	if changed {
		if err := r.renderMain(); err != nil {
			return nil, err
		}
	}
	if r.problem != nil {
		failed = append(failed, r.problem)
	}
	files[0] = r.main
	files = append(files, distinct(fragments)...)
	if vrrp {
		addresses, err := r.addressFiles()
		if err != nil {
			return nil, err
		}
		files = append(files, addresses...)
	}
	set, err := fileset.New(files...)
	if err != nil {
		return nil, err
	}
	if len(failed) == 0 {
		r.set = set
	}
	return set, errors.Join(failed...)
}

// count one Service more or less for some checks, and report whether one has
// come or gone.
func (r *Renderer) count(checks []nodeCheck, by int) (changed bool) {
	for _, c := range checks {
		was := r.checks[c]
		if r.checks[c] = was + by; was+by == 0 {
			delete(r.checks, c)
		}
		changed = changed || was == 0 || was+by == 0
	}
	return changed
}

func (r *Renderer) fragment(s *lb.Service) (*fragment, error) {
	v, err := r.engine.service(s)
	if err != nil {
		return nil, err
	}
	data, problem, err := r.execute(serviceTemplate, v.data)
	if err != nil {
		return nil, err
	}
	certs, err := certificates(s)
	if err != nil {
		return nil, err
	}
	file, err := fileset.NewFragment(Path(s.ID), data, v.listens)
	return &fragment{file, v.checks, certs, problem}, err
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
