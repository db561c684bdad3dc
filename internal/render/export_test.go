package render

import (
	"maps"
	"slices"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

// Resolved makes the files of Services whose nodes were found already, so that a test
// can say whatever it likes of a backend.
func (r *Renderer) Resolved(services []*engine.Service, certificates map[string]*lb.Certificate) (set *fileset.Set, refused []lb.Refusal, problems []error, err error) {
	var files []File
	shared, shown := map[engine.Shared]bool{}, map[string]bool{}
	for _, s := range services {
		own, needs, err := r.service(func() *engine.Service { return s })
		if err != nil {
			refused = append(refused, lb.Refusal{Key: lb.ServiceKey(s.ID), Reason: lb.RefusedByEngine, Message: err.Error()})
			continue
		}
		files = append(files, own...)
		for _, one := range needs {
			shared[one] = true
		}
		for _, front := range s.Frontends {
			if c := certificates[front.Settings.Certificate]; c != nil && !shown[c.Name()] {
				shown[c.Name()] = true
				files = append(files, certificate(c, lb.CertificateKey(c.Name()), lb.Sum{}))
			}
		}
	}
	files = append(files, r.main(slices.Collect(maps.Keys(shared))))
	set, problems, err = Collect(files)
	return set, refused, problems, err
}
