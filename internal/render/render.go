package render

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/template"

	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/templates"
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

// ServiceError is a Service that cannot be rendered.
type ServiceError struct {
	ID  lb.ID
	Err error
}

func (e *ServiceError) Error() string { return fmt.Sprintf("Service %s: %v", e.ID, e.Err) }

func (e *ServiceError) Unwrap() error { return e.Err }

// Renderer renders the Configs of one Balancer, one after the other. It keeps
// what it made of the Services of the last one. Not for concurrent use.
type Renderer struct {
	templates *template.Template
	main      fileset.File
	fragments map[*lb.Service]fileset.File // of the last Config
	services  []*lb.Service                // of the last Config
	set       *fileset.Set                 // of the last Config, if all of it could be rendered
}

// New makes a Renderer for an engine.
func New(engine lb.Engine) (*Renderer, error) {
	if engine != lb.Nginx {
		return nil, fmt.Errorf("no templates for the engine %q", engine)
	}
	parsed, err := template.New("").Option("missingkey=error").ParseFS(templates.Nginx, "nginx/*.tmpl")
	if err != nil {
		return nil, fmt.Errorf("parse the built-in templates: %w", err)
	}
	r := &Renderer{templates: parsed}
	data, err := r.execute("main.conf.tmpl", nil)
	if err != nil {
		return nil, err
	}
	r.main, err = fileset.NewFile(MainPath, data)
	return r, err
}

// Render makes the files of a Config. A Service that is the same pointer as last
// time is not rendered again. A Service that cannot be rendered blocks no other:
// the Set is there and lacks it, and the error joins one *ServiceError for each.
func (r *Renderer) Render(cfg *lb.Config) (*fileset.Set, error) {
	if r.set != nil && slices.Equal(r.services, cfg.Services) {
		return r.set, nil
	}
	var failed []error
	fragments := make(map[*lb.Service]fileset.File, len(cfg.Services))
	files := append(make([]fileset.File, 0, len(cfg.Services)+1), r.main)
	for _, s := range cfg.Services {
		fragment, known := r.fragments[s]
		if !known {
			var err error
			if fragment, err = r.fragment(s); err != nil {
				failed = append(failed, &ServiceError{ID: s.ID, Err: err})
				continue
			}
		}
		fragments[s] = fragment
		files = append(files, fragment)
	}
	set, err := fileset.New(files...)
	if err != nil {
		return nil, err
	}
	r.fragments, r.services, r.set = fragments, slices.Clone(cfg.Services), nil
	if len(failed) == 0 {
		r.set = set
	}
	return set, errors.Join(failed...)
}

func (r *Renderer) fragment(s *lb.Service) (fileset.File, error) {
	view, err := newNginxService(s)
	if err != nil {
		return fileset.File{}, err
	}
	data, err := r.execute("service.conf.tmpl", view)
	if err != nil {
		return fileset.File{}, err
	}
	return fileset.NewFragment(Path(s.ID), data, view.listens())
}

func (r *Renderer) execute(name string, data any) ([]byte, error) {
	var out bytes.Buffer
	if err := r.templates.ExecuteTemplate(&out, name, data); err != nil {
		return nil, err
	}
	return slices.Clip(out.Bytes()), nil
}
