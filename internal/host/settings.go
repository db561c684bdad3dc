package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/external-lb/external-lb/internal/admit"
	"github.com/external-lb/external-lb/internal/engine"
)

// SettingsPath is where a machine's settings are, owned by root.
const SettingsPath = "/etc/external-lb/host.yaml"

// Settings are what a balancer machine's administrator decides: which daemons
// run, how they are checked and reloaded, and where files are written. Nothing of
// it ever comes over the wire.
type Settings struct {
	general
	table  *engine.Table
	uses   []use
	family *engine.Family
	root   uint32 // who owns templates: 0 but in tests
	sudo   bool   // this user is not root
	// program is this one: commands go through it, see unit.preview.
	program string
}

// general are the settings that are for no daemon alone. Each engine has a section
// of its own beside them.
type general struct {
	Engine string `json:"engine,omitempty"` // a name of the table
	// Datagrams is the engine that carries all that is not TCP; "": the one above does.
	Datagrams string `json:"datagrams,omitempty"`
	Root      string `json:"root,omitempty"` // everything that is written lies below it
	// Family of distributions whose layout the defaults are; default: the one that this
	// machine is of, or the first.
	Family string `json:"family,omitempty"`
	// VRRP: addresses move between this machine and others.
	VRRP bool `json:"vrrp,omitempty"`
	// Socket is where the agent listens for the forced command.
	Socket string `json:"socket,omitempty"`
	// Templates is the folder of the owner's templates.
	Templates string `json:"templates,omitempty"`
	// ConnectionsPerService is how many clients of one Service are connected at most. 0: no limit.
	ConnectionsPerService int `json:"connectionsPerService,omitempty"`
	// OldWorkersMiB is how much memory processes of earlier configurations may hold together,
	// in MiB. 0: a quarter of the machine's.
	OldWorkersMiB int `json:"oldWorkersMiB,omitempty"`
	// Admit says what may be carried.
	Admit admit.Rules `json:"admit"`
}

// use is a daemon that this machine has. They are in the order in which a delivery is
// for them: what carries the traffic first, so that nothing is at an address that is
// not answered there.
type use struct {
	engine.Software
	dir string          // of the store
	own engine.Settings // of the daemon
	// carries traffic, as this engine; nil: it carries none
	carries *engine.Engine
	moves   bool // it moves addresses
}

// LoadSettings reads a machine's settings; what they leave out has its default.
func LoadSettings(path string, t *engine.Table) (Settings, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Settings{}, fmt.Errorf("%s is missing: this machine is not prepared yet; run `external-lb host install` on it as root", path)
	}
	if err != nil {
		return Settings{}, err
	}
	s, err := ParseSettings(data, t)
	if err != nil {
		return Settings{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// ParseSettings reads settings. Fields that it does not know are errors. Commands go
// through sudo, unless this process is root already.
func ParseSettings(data []byte, t *engine.Table) (Settings, error) {
	return parseSettings(data, t, os.Geteuid() != 0)
}

func parseSettings(data []byte, t *engine.Table, sudo bool) (Settings, error) {
	sections := map[string]any{}
	if err := yaml.UnmarshalStrict(data, &sections); err != nil {
		return Settings{}, err
	}
	program, err := thisProgram()
	if err != nil {
		return Settings{}, err
	}
	s := Settings{table: t, program: program, sudo: sudo}
	known := s.takeSections(sections)
	if err := decode(sections, &s.general); err != nil {
		return Settings{}, err
	}
	engine.SetDefault(&s.Engine, t.Default())
	if err := s.findFamily(); err != nil {
		return Settings{}, err
	}
	engine.SetDefault(&s.Root, "/var/lib/external-lb")
	engine.SetDefault(&s.Socket, "/run/external-lb/agent.sock")
	engine.SetDefault(&s.Templates, TemplatesDir)
	if err := s.knowsEngines(); err != nil {
		return Settings{}, err
	}
	errs := append(engine.CheckPaths(map[string]string{"root": s.Root, "socket": s.Socket, "templates": s.Templates}), s.Admit.Validate())
	errs = append(errs, s.checkShares())
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	s.choose()
	for i := range s.uses {
		u := &s.uses[i]
		u.own = u.Settings()
		// What the owner says lies over what the family has.
		err := yaml.UnmarshalStrict([]byte(u.Layouts[s.Family].Settings), u.own)
		if err := errors.Join(err, decode(known[u.Section], u.own)); err != nil {
			return Settings{}, fmt.Errorf("%s: %w", u.Section, err)
		}
		u.own.SetDefaults(s.Root, u.dir, sudo)
		errs = append(errs, u.own.Validate()...)
		delete(known, u.Section)
	}
	if err := s.readUnused(known); err != nil {
		return Settings{}, err
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return s, errors.Join(errs...)
}

// findFamily of distributions.
func (s *Settings) findFamily() error {
	if s.Family == "" {
		s.family, _ = engine.ThisFamily()
		if s.family == nil {
			s.family = engine.Families[0]
		}
		s.Family = s.family.Name
	} else if s.family = engine.FindFamily(s.Family); s.family == nil {
		return fmt.Errorf("family %q: want one of %s", s.Family, strings.Join(engine.FamilyNames(), ", "))
	}
	return nil
}

// checkShares says why nobody can have the share that is given.
func (s *Settings) checkShares() error {
	why := s.table.Find(s.Engine).NoShares
	switch {
	case s.ConnectionsPerService < 0:
		return fmt.Errorf("connectionsPerService: %d is no number of connections", s.ConnectionsPerService)
	case s.ConnectionsPerService > 0 && why != "":
		return fmt.Errorf("connectionsPerService: %s", why)
	}
	if s.OldWorkersMiB < 0 {
		return fmt.Errorf("oldWorkersMiB: %d is no size", s.OldWorkersMiB)
	}
	return nil
}

// knowsEngines says what is wrong with their names.
func (s *Settings) knowsEngines() error {
	main, beside := s.table.Find(s.Engine), s.table.Datagrams
	switch {
	case main == nil:
		return fmt.Errorf("engine %q: want %s", s.Engine, s.table.List())
	case s.Datagrams == "":
		return nil
	case beside == nil || s.Datagrams != beside.Name:
		return fmt.Errorf("datagrams %q: want %s, or leave it out", s.Datagrams, beside)
	case main == beside:
		return fmt.Errorf("datagrams %q: the engine carries them itself: leave it out", s.Datagrams)
	}
	return nil
}

// carriers are the engines of this machine.
func (s *Settings) carriers() engine.Carriers {
	c := engine.Carriers{Main: s.table.Find(s.Engine)}
	if s.Datagrams != "" {
		c.Datagrams = s.table.Datagrams
	}
	return c
}

// software is all that the table has.
func (s *Settings) software() []engine.Software {
	var all []engine.Software
	for _, e := range s.table.Engines {
		all = append(all, e.Software)
	}
	return append(all, s.table.VRRP.Software)
}

// takeSections takes those that are for daemons out of all settings.
func (s *Settings) takeSections(all map[string]any) map[string]any {
	taken := map[string]any{}
	for _, w := range s.software() {
		if section, ok := all[w.Section]; ok {
			taken[w.Section] = section
			delete(all, w.Section)
		}
	}
	return taken
}

// readUnused refuses mistakes also in the sections of daemons that are not in use.
func (s *Settings) readUnused(sections map[string]any) error {
	for _, w := range s.software() {
		if section, ok := sections[w.Section]; ok {
			delete(sections, w.Section)
			if err := decode(section, w.Settings()); err != nil {
				return fmt.Errorf("%s: %w", w.Section, err)
			}
		}
	}
	return nil
}

// decode a part of settings that was read already.
func decode(part, into any) error {
	text, err := yaml.Marshal(part)
	if err != nil {
		return err
	}
	return yaml.UnmarshalStrict(text, into)
}

// choose the daemons of this machine.
func (s *Settings) choose() {
	c, vrrp := s.carriers(), s.table.VRRP
	mover := false
	for _, e := range c.All() {
		s.uses = append(s.uses, use{Software: e.Software, dir: filepath.Join(s.Root, e.Name), carries: e, moves: s.VRRP && e.Moves})
		mover = mover || e.Moves
	}
	if s.VRRP && !mover {
		s.uses = append(s.uses, use{Software: vrrp.Software, dir: filepath.Join(s.Root, vrrp.Name), moves: true})
	}
}
