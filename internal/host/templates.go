package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/render"
)

// TemplatesDir is where the owner of a machine puts templates of his own, in a folder
// for each engine. They say how traffic is carried, so they must be root's.
const TemplatesDir = "/etc/external-lb/templates"

// MaxTemplates is how many bytes the templates of an engine may have.
const MaxTemplates = 1 << 20

// ReadTemplates reads those of a directory, by name, as a delivery does: an error says
// why it would not take them.
func ReadTemplates(dir string) (map[string]string, error) { return readTemplates(dir, 0) }

// readTemplates reads the templates of the machine's owner for an engine, by name;
// none if there is no folder.
func readTemplates(dir string, uid uint32) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := ownedOnly(dir, uid); err != nil {
		return nil, err
	}
	all, size := map[string]string{}, int64(0)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !strings.HasSuffix(e.Name(), ".tmpl") {
			continue
		}
		info, err := os.Lstat(path)
		if err != nil {
			return nil, err
		}
		if size += info.Size(); !info.Mode().IsRegular() || size > MaxTemplates {
			return nil, fmt.Errorf("%s: want files of at most %d bytes together", path, MaxTemplates)
		}
		if err := ownedOnly(path, uid); err != nil {
			return nil, err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		all[e.Name()] = string(text)
	}
	return all, nil
}

// ownedOnly refuses what somebody else than root could have written.
func ownedOnly(path string, uid uint32) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid != uid || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s must be root's, and nobody else may write it: chown root %[1]s; chmod go-w %[1]s", path)
	}
	return nil
}

// templatesFile is where a templateRecord lies.
const templatesFile = "templates.json"

// templateRecord is what became of the owner's templates.
type templateRecord struct {
	Good    map[string]string `json:"good,omitempty"`    // with which something went live last
	Proved  string            `json:"proved,omitempty"`  // the sum of the Renderer with these
	Refused string            `json:"refused,omitempty"` // the sum of one whose trial has failed
	Why     string            `json:"why,omitempty"`
	Late    int               `json:"late,omitempty"` // how many trials of that have only not been proved in time; 0: it failed otherwise
}

// lateTrials are how many templates have that are only not proved in time: the host may be slow
// for a while, and it may be the templates.
const lateTrials = 3

// fail notes the trial of a Renderer.
func (r *templateRecord) fail(sum string, t *trial) {
	switch {
	case !t.late:
		r.Late = 0
	case r.Refused == sum:
		r.Late++
	default:
		r.Late = 1
	}
	r.Refused, r.Why = sum, t.why
}

// again reports whether what has failed is tried once more.
func (r *templateRecord) again() bool { return r.Late > 0 && r.Late < lateTrials }

// templateRecord of the last delivery.
func (m *model) templateRecord() (r templateRecord) {
	data, err := m.readFile(templatesFile, maxRecord)
	if err != nil || json.Unmarshal(data, &r) != nil {
		return templateRecord{}
	}
	return r
}

// chosen are the templates that are in force.
type chosen struct {
	*render.Renderer
	custom  map[string]string // none: the built-in ones
	problem string            // why those of the machine's owner are not in force
	late    string            // the same of those that this delivery tries once more
}

// tried is what came of templates on samples.
type tried struct {
	custom  map[string]string
	render  *render.Renderer
	problem error
}

// with makes a Renderer with templates, or takes the one that was made of the same last.
func (a *Agent) with(custom map[string]string) (*render.Renderer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last.render == nil && a.last.problem == nil || !maps.Equal(a.last.custom, custom) {
		a.last.custom = custom
		a.last.render, a.last.problem = a.builtIn.With(custom)
	}
	return a.last.render, a.last.problem
}

// choose the templates: those of the machine's owner; where they cannot be used,
// the last good ones.
func (a *Agent) choose(m *model) chosen {
	dir, last := filepath.Join(a.settings.Templates, a.settings.Engine), m.templateRecord()
	custom, err := readTemplates(dir, a.settings.root)
	var r *render.Renderer
	if err == nil {
		r, err = a.with(custom)
	}
	if err == nil && last.Refused == digits(r.Sum()) {
		if last.again() {
			return chosen{Renderer: r, custom: custom, late: a.lastGood(last, last.Why).problem + "; the next delivery tries them again"}
		}
		err = errors.New(last.Why)
	}
	if err == nil {
		return chosen{Renderer: r, custom: custom}
	}
	return a.lastGood(last, strings.ReplaceAll(err.Error(), "\n", "; "))
}

// lastGood templates are in force, since others cannot be used.
func (a *Agent) lastGood(last templateRecord, why string) chosen {
	problem := fmt.Sprintf("the templates in %s cannot be used: %s", filepath.Join(a.settings.Templates, a.settings.Engine), why)
	if r, err := a.builtIn.With(last.Good); err == nil && len(last.Good) > 0 {
		return chosen{Renderer: r, custom: last.Good, problem: problem + "; the last good ones are in force"}
	}
	return chosen{Renderer: a.builtIn, problem: problem + "; the built-in ones are in force"}
}

// trial is the first use of templates: where they spoil what others can make, the
// last good ones make all of it.
type trial struct {
	refusedBefore map[lb.Key]bool // which the daemon has refused before, whatever the templates
	key           lb.Key          // of what has failed; "": the whole
	why           string
	late          bool // the daemon has only not proved it in time
}

// errTrial is why a trial has failed.
type errTrial struct{ why string }

func (e *errTrial) Error() string { return e.why }

// blame templates for what has become of an Item, unless they are innocent.
func (t *trial) blame(key lb.Key, why string) bool {
	if t == nil || t.refusedBefore[key] {
		return false
	}
	if t.why == "" {
		t.key, t.why = key, strings.TrimSpace("what they make of "+key.Describe())+": "+why
	}
	return true
}

// blameWhole blames templates for a configuration that was rolled back.
func (t *trial) blameWhole(err error) {
	if t.blame("", err.Error()) {
		coded, ok := errors.AsType[*Error](err)
		t.late = ok && coded.Late
	}
}

// culprit is the Item that templates have spoilt; "" for none.
func (t *trial) culprit() lb.Key {
	if t == nil {
		return ""
	}
	return t.key
}

// failed is why a trial has; nil if it has not, or there is none.
func (t *trial) failed() error {
	if t == nil || t.why == "" {
		return nil
	}
	return &errTrial{t.why}
}

// newTrial of templates, unless they were good before or are built in.
func (a *Agent) newTrial(c chosen) *trial {
	if len(c.custom) == 0 || digits(c.Sum()) == a.model.templateRecord().Proved {
		return nil
	}
	t := &trial{refusedBefore: map[lb.Key]bool{}}
	for _, r := range a.model.refusals() {
		if r.Reason == lb.RefusedByEngine && r.OfItem() {
			t.refusedBefore[r.Key] = true
		}
	}
	return t
}
