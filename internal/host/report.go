package host

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/lb"
)

// each opens the store of each unit.
func (a *Agent) each(look func(*unit, *store) error) error {
	for _, u := range a.units {
		s, err := openStore(u.dir)
		if err == nil {
			err = look(u, s)
			s.close() // nothing is written to a directory
		}
		if err != nil {
			return u.explain(err)
		}
	}
	return nil
}

// carried is what each unit carries, whether its files are as they were made or not.
func (a *Agent) carried() (shown []condition, err error) {
	err = a.each(func(u *unit, s *store) error {
		carries, err := u.liveItems(s)
		shown = append(shown, condition{traffic: u.carries != nil, carries: carries})
		return err
	})
	return shown, err
}

// live are the Items that the daemons carry.
func (a *Agent) live() (lb.Sums, error) {
	shown, err := a.carried()
	return together(shown), err
}

// mayStay are the Items that are live, by the version that may stay of each: of one that is carried
// in part, since a daemon fails, that is the wanted one, where some daemon has it still.
func mayStay(shown []condition, wanted lb.Manifest) lb.Sums {
	all := together(shown)
	for _, c := range shown {
		for key, sum := range c.carries {
			if was, is := wanted.Sum(key); is && was == sum {
				all[key] = sum
			}
		}
	}
	return all
}

// together are the Items that units carry. Those that carry traffic have a part of each
// Service each, and what it refers to: where one lacks an Item or has another version, it is
// carried in part, and has a sum that is no version's.
func together(shown []condition) lb.Sums {
	all, traffic := lb.Sums{}, []lb.Sums{}
	for _, c := range shown {
		maps.Copy(all, c.carries)
		if c.traffic {
			traffic = append(traffic, c.carries)
		}
	}
	for key, sum := range all {
		if len(traffic) < 2 || key.IsAddress() || key == lb.VRRPKey {
			continue // of one unit alone
		}
		for _, one := range traffic {
			if has, there := one[key]; !there || has != sum {
				all[key] = sha256.Sum256([]byte("in part: " + string(key)))
			}
		}
	}
	return all
}

// report says what is wanted, and what the daemons prove now.
func (a *Agent) report(ctx context.Context) (Report, error) {
	var shown []condition
	err := a.each(func(u *unit, s *store) error {
		b, err := u.liveFiles(s)
		if err != nil {
			return err
		}
		c := condition{traffic: u.carries != nil, carries: b.carries(), renderer: b.Renderer}
		if u.proves(ctx, s, b) {
			c.proved, c.generation = true, b.digest()
		}
		shown = append(shown, c)
		return nil
	})
	if err != nil {
		return Report{}, err
	}
	return a.reportOf(a.model, shown, a.choose(a.model)), nil
}

// reportOf puts together what the units show.
func (a *Agent) reportOf(m *model, shown []condition, c chosen) Report {
	a.mu.Lock()
	w := m.wanted
	a.mu.Unlock()
	out := Report{Wanted: w.sums, Live: w.sums.To(w.delivered(together(shown))), Proved: true, Renderer: a.made(c.Renderer)}
	out.Refused = m.refusals()
	var digests []byte
	for _, c := range shown {
		out.Proved = out.Proved && c.proved
		out.Outdated = out.Outdated || c.renderer != out.Renderer
		digests = append(digests, c.generation...)
	}
	if !slices.ContainsFunc(shown, func(c condition) bool { return c.generation == "" }) {
		sum := sha256.Sum256(digests)
		out.Generation = hex.EncodeToString(sum[:])
	}
	return out
}

// Recorded says which cluster delivers to the machine, and where its owner has API servers
// carried; "" where that cannot be read.
func (a *Agent) Recorded() (cluster, kept string) {
	m, err := a.latest()
	if err != nil {
		return "", ""
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return m.record.Cluster, m.wanted.own.describe()
}

// Status looks at the machine now. What is wrong with it is its Message, not an error.
func (a *Agent) Status(ctx context.Context) (Status, error) {
	out := Status{Engine: a.settings.carriers().String()}
	var conditions []condition
	var last time.Time // that a daemon was restarted
	for i, u := range a.units {
		u.watchRestarts()
		restarts, at, restarted := u.restarted(time.Now())
		if out.Restarts += restarts; restarted != "" && at.After(last) {
			last, out.Restarted = at, restarted
		}
		c, err := u.status(ctx)
		if err != nil {
			return out, err
		}
		conditions = append(conditions, c)
		out.Running = c.running && (i == 0 || out.Running)
		out.Active = out.Active || u.active()
		out.EngineVersion = strings.TrimSpace(out.EngineVersion + " " + c.version)
		out.OldWorkers += c.oldWorkers
		out.Uses.Connections = out.Uses.Connections.Fuller(c.uses.Connections)
		out.Uses.Files = out.Uses.Files.Fuller(c.uses.Files)
		if i == 0 {
			out.Uses.Memory, out.Uses.Old = memoryUse(), c.old
		}
		out.Message = cmp.Or(out.Message, c.message)
	}
	out.Uses.Tracked = trackedUse()
	out.Message = cmp.Or(out.Message, crowdedTable(out.Uses.Tracked))
	m, err := a.latest()
	if err == nil {
		err = a.lost(m) // then who may hear what it carries is not known either
	}
	if err != nil {
		out.Message = cmp.Or(out.Message, a.units[0].explain(err).Error())
		return out, ctx.Err()
	}
	chosen := a.choose(m)
	out.Report, out.Templates = a.reportOf(m, conditions, chosen), cmp.Or(chosen.problem, chosen.late)
	a.mu.Lock()
	out.Cluster, out.Epoch = m.record.Cluster, m.record.Epoch
	out.Kept = m.wanted.own.describe()
	a.mu.Unlock()
	for _, c := range conditions {
		out.Templates = cmp.Or(out.Templates, c.templates)
	}
	return out, nil
}
