package controllers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/plan"
)

// templates are a Balancer's custom templates, from one reconcile to the next.
//
// What a ConfigMap holds is tried in two steps: on samples and on the Services, by
// rendering, and then by the hosts, which take it as a whole or not at all. Until
// every host has proved it, and as long as any refuses it, what was good before is
// what everything goes back to.
type templates struct {
	loaded   bool              // good was read from the record
	good     map[string]string // that every host proved last; none: the built-in ones
	rejected *rejection        // of what was wanted last; nil: none
	onTrial  string            // the name of the trial under way; "": none
	used     string            // the name of those that the last plan was made with
}

// rejection says why templates are not in use.
type rejection struct {
	trial   string // the name of their trial
	problem plan.Problem
	again   time.Time // when to try them again; zero: never, it cannot turn out otherwise
}

// retryTemplates is how long templates that a host refused are left alone: what was
// wrong may be the host.
const retryTemplates = 5 * time.Minute

// trialName is the same for the same templates.
func trialName(custom map[string]string) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(custom)) {
		fmt.Fprintf(h, "%d %s %d %s", len(name), name, len(custom[name]), custom[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// plan makes the plan with the templates that a Balancer asks for, or with the last
// good ones if there is something wrong with those.
func (r *balancerReconciler) plan(ctx context.Context, b *v1alpha1.Balancer, kept *memory, snap *plan.Snapshot, a *plan.Assignments) (*plan.Plan, error) {
	t := &kept.templates
	if !t.loaded {
		good, err := LastGoodTemplates(ctx, r.reader, r.namespace, b)
		if err != nil {
			return nil, err
		}
		t.good, t.loaded = good, true
	}
	wanted, problem, err := r.wantedTemplates(ctx, b)
	if err != nil {
		return nil, err
	}
	if problem == nil {
		t.judge(wanted, r.fleet.States(b.Name), time.Now())
		tried, err := kept.try(wanted, snap, a)
		if err != nil || tried != nil {
			return tried, err
		}
		if t.rejected != nil {
			problem = &t.rejected.problem
		}
	}
	t.onTrial = ""
	p, unfit, err := kept.planWith(t.good, snap, a)
	if err == nil && p == nil { // good for another version of external-lb
		t.good, problem = nil, unfit
		p, _, err = kept.planWith(nil, snap, a)
	}
	if err == nil && problem != nil {
		p.Templates = &plan.Problem{Reason: problem.Reason, Message: problem.Message + "; " + t.inForce()}
	}
	return p, err
}

// try makes a plan with templates that must stand a trial, if they do and if it can
// be made with them. What cannot be rendered is rejected here, before any host hears
// of it.
func (kept *memory) try(wanted map[string]string, snap *plan.Snapshot, a *plan.Assignments) (*plan.Plan, error) {
	t, now := &kept.templates, time.Now()
	trial := t.trial(wanted, now)
	if trial == "" {
		return nil, nil
	}
	p, unfit, err := kept.planWith(wanted, snap, a)
	switch {
	case err != nil:
		return nil, err
	case unfit == nil:
		p.Trial, t.onTrial = trial, trial
		return p, nil
	case p == nil:
		t.rejected = &rejection{trial: trial, problem: *unfit}
	default: // it is about some Services, which may change
		t.rejected = &rejection{trial: trial, problem: *unfit, again: now.Add(retryTemplates)}
	}
	return nil, nil
}

func (t *templates) inForce() string {
	if len(t.good) == 0 {
		return "the built-in templates stay in force"
	}
	return "the last good templates stay in force"
}

// planWith makes the plan with some templates. If they cannot be used, there is no
// plan; if not for some Services, there is one, in which others stand in for them.
func (kept *memory) planWith(custom map[string]string, snap *plan.Snapshot, a *plan.Assignments) (*plan.Plan, *plan.Problem, error) {
	if err := kept.planner.Use(custom); err != nil {
		return nil, invalidTemplates(strings.ReplaceAll(err.Error(), "\n", "; ")), nil
	}
	kept.templates.used = trialName(custom)
	made, err := kept.planner.Plan(snap, a)
	if err != nil || len(made.Unfit) == 0 {
		return made, nil, err
	}
	return made, invalidTemplates(strings.Join(made.Unfit[:min(listed, len(made.Unfit))], "; ")), nil
}

func invalidTemplates(message string) *plan.Problem {
	return &plan.Problem{Reason: v1alpha1.ReasonTemplatesInvalid, Message: message}
}

// trial is the name of a trial that templates must stand now, "" if none.
func (t *templates) trial(wanted map[string]string, now time.Time) string {
	if len(wanted) == 0 {
		t.good, t.rejected = nil, nil // built-in templates are good
		return ""
	}
	name := trialName(wanted)
	if maps.Equal(wanted, t.good) {
		t.rejected = nil
		return ""
	}
	if r := t.rejected; r != nil && r.trial == name && (r.again.IsZero() || now.Before(r.again)) {
		return ""
	}
	return name
}

// judge ends the trial of templates that a host has refused, or all have proved.
func (t *templates) judge(wanted map[string]string, states []deliver.State, now time.Time) {
	name, passed := trialName(wanted), 0
	if t.onTrial != name {
		return // what hosts say is about others
	}
	for _, s := range states {
		if s.Trial.Name != name {
			continue
		}
		if s.Trial.Refused != "" {
			t.rejected = &rejection{
				trial: name, again: now.Add(retryTemplates),
				problem: plan.Problem{Reason: v1alpha1.ReasonTemplatesRefused, Message: s.Host + ": " + s.Trial.Refused},
			}
			return
		}
		if s.Trial.Passed {
			passed++
		}
	}
	if passed > 0 && passed == len(states) {
		t.good, t.rejected = wanted, nil
	}
}

// tryAgain is how long until templates that were rejected are tried again; 0: they
// are not.
func (t *templates) tryAgain(now time.Time) time.Duration {
	if t.rejected == nil || t.rejected.again.IsZero() {
		return 0
	}
	return max(time.Second, t.rejected.again.Sub(now))
}

// refusedMeanwhile reports whether a host has refused what is on trial since the
// plan was made. It has started another reconcile.
func refusedMeanwhile(trial string, states []deliver.State) bool {
	return trial != "" && slices.ContainsFunc(states, func(s deliver.State) bool {
		return s.Trial.Name == trial && s.Trial.Refused != ""
	})
}
