package host

import (
	"context"
	"maps"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

// How many checks of a whole set find culprits by name, and how many look for
// them by trying, before the rest of what is new is left out together.
const (
	checksByName   = 20
	checksByTrying = 64
)

// checkWhole has all tested that the daemon reads, by its command or by one made of that.
func (u *unit) checkWhole(ctx context.Context, command func(argv []string) []string) error {
	d, can := u.daemon.(engine.WholeChecker)
	if !can {
		return nil
	}
	began := time.Now()
	words, err := d.CheckWhole(ctx, command(d.Whole()))
	u.patience.expect(checkToReload * time.Since(began))
	if err != nil {
		return err
	}
	return u.verdict(words)
}

// verdict is the daemon's answer to a check as an error: with no words, it takes the set.
func (u *unit) verdict(words string) error {
	if words == "" {
		return nil
	}
	return &engine.Refusal{Daemon: u.daemon.Name(), Message: words}
}

// checkAll has a staged set tested as it would run: with all else that the daemon reads, where
// that can be tested. own is the host's own file for it.
func (u *unit) checkAll(ctx context.Context, g *staged) (own []byte, err error) {
	if _, can := u.daemon.(engine.WholeChecker); !can {
		words, err := u.daemon.Check(ctx, g)
		if err == nil {
			err = u.verdict(words)
		}
		if err != nil {
			return nil, err
		}
		return u.daemon.Own(g)
	}
	if own, err = u.daemon.Own(g); err != nil {
		return nil, err
	}
	if err := g.Write(u.daemon.OwnFile(), own); err != nil {
		return nil, err
	}
	return own, u.checkWhole(ctx, u.preview)
}

// checker has a staged set tested by itself, and drops the fragments that the
// daemon refuses until it takes the rest.
type checker struct {
	*unit
	*staged
	base     *base // that was live before
	culprits map[string]engine.Culprit
	nodes    []lb.Key // for which there is no room
	tried    int
}

func (c *checker) run(ctx context.Context) error {
	for range checksByName {
		words, err := c.check(ctx)
		if err != nil && c.beyond {
			dropped := len(c.culprits)
			switch roomErr := c.makeRoom(); {
			case roomErr != nil:
				return roomErr
			case len(c.nodes) > 0:
				return nil
			case len(c.culprits) > dropped:
				continue
			}
		}
		if err != nil || words == "" {
			return err
		}
		if c.daemon.Lacks(words) {
			return c.verdict(words)
		}
		culprits := c.daemon.Blame(c.suspectsIn(c.staged), words)
		if len(culprits) == 0 {
			return c.try(ctx, words)
		}
		if err := c.refuse(culprits); err != nil {
			return err
		}
		if c.daemon.StopsAtFirst() {
			if err := c.sweep(ctx, culprits); err != nil {
				return err
			}
		}
	}
	return c.try(ctx, "too many fragments contradict each other")
}

func (c *checker) check(ctx context.Context) (words string, err error) {
	return c.daemon.Check(ctx, c.staged)
}

func (c *checker) refuse(culprits map[string]engine.Culprit) error {
	maps.Copy(c.culprits, culprits)
	for p := range culprits {
		if err := c.drop(p); err != nil {
			return err
		}
	}
	return nil
}

// sweep looks for more culprits after the one that was found. The daemon has read
// all files before that one, so only those after it are read: all culprits
// together cost little more than one check of everything.
func (c *checker) sweep(ctx context.Context, culprits map[string]engine.Culprit) error {
	for len(culprits) > 0 {
		last := ""
		for p := range culprits {
			last = max(last, p)
		}
		rest := 0
		for _, p := range c.fragments() {
			if p > last {
				rest++
			} else if err := c.hide(p); err != nil {
				return err
			}
		}
		if rest == 0 {
			break
		}
		words, err := c.check(ctx)
		if err != nil {
			return err
		}
		culprits = c.daemon.Blame(c.suspectsIn(c.staged), words)
		if err := c.refuse(culprits); err != nil {
			return err
		}
	}
	return c.showAll(c.fragments())
}

func (c *checker) showAll(paths []string) error {
	for _, p := range paths {
		if err := c.show(p); err != nil {
			return err
		}
	}
	return nil
}

// try finds culprits that the daemon does not name among the fragments that are
// new: without any of them it must take the set, then they are added by halves.
func (c *checker) try(ctx context.Context, words string) error {
	var suspects []string
	for _, p := range c.fragments() {
		if c.fresh[p] {
			suspects = append(suspects, p)
		}
	}
	if len(suspects) == 0 {
		return c.verdict(words)
	}
	for _, p := range suspects {
		if err := c.hide(p); err != nil {
			return err
		}
	}
	words, err := c.check(ctx)
	if err != nil {
		return err
	}
	if words != "" {
		return c.verdict(words)
	}
	return c.add(ctx, suspects)
}

// add shows a group of fragments, or those of them that the daemon takes.
func (c *checker) add(ctx context.Context, group []string) error {
	if err := c.showAll(group); err != nil {
		return err
	}
	c.tried++
	words, err := c.check(ctx)
	if err != nil || words == "" {
		return err
	}
	if len(group) == 1 || c.tried > checksByTrying {
		culprits := map[string]engine.Culprit{}
		for _, p := range group {
			culprits[p] = engine.Culprit{Reason: c.suspectsIn(c.staged).Trim(words)}
		}
		return c.refuse(culprits)
	}
	for _, p := range group {
		if err := c.hide(p); err != nil {
			return err
		}
	}
	half := len(group) / 2
	if err := c.add(ctx, group[:half]); err != nil {
		return err
	}
	return c.add(ctx, group[half:])
}
