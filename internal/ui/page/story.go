package page

import (
	"cmp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/text"
)

// Moment is an event, or what a condition says since then.
type Moment struct {
	At     string `json:"at,omitempty"` // RFC 3339; "": nobody knows
	Source string `json:"source"`       // Event, or the condition's type
	Reason string `json:"reason"`
	Text   string `json:"text"`
	Count  int32  `json:"count,omitempty"` // of events that say the same, if not 1
	Health Health `json:"health"`

	at time.Time
}

// story puts moments in their order, the newest first, and leaves out what is too much.
func story(moments ...[]Moment) []Moment {
	out := slices.Concat(moments...)
	slices.SortStableFunc(out, func(a, b Moment) int {
		return cmp.Or(b.at.Compare(a.at), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Text, b.Text))
	})
	return out[:min(len(out), maxStory)]
}

// ofConditions of an object is what they say, but for the one that is for external-lb.
func ofConditions(conditions []metav1.Condition) (out []Moment) {
	for _, c := range conditions {
		if c.Type != v1alpha1.ConditionRecord {
			out = append(out, ofCondition("", c, wrong(c) != ""))
		}
	}
	return out
}

func ofCondition(of string, c metav1.Condition, bad bool) Moment {
	h := Unknown // it says no more than that something else is so
	switch {
	case bad:
		h = Bad
	case c.Status == metav1.ConditionTrue:
		h = Good
	}
	said := of + c.Type + "=" + string(c.Status)
	return moment(Moment{at: c.LastTransitionTime.Time, Source: said, Reason: c.Reason, Text: c.Message, Health: h})
}

func ofEvents(events []*corev1.Event) (out []Moment) {
	for _, e := range events {
		h := Unknown
		if e.Type == corev1.EventTypeWarning {
			h = Bad
		}
		at := cmp.Or(e.LastTimestamp.Time, e.EventTime.Time, e.CreationTimestamp.Time)
		m := Moment{at: at, Source: "Event", Reason: e.Reason, Text: e.Message, Health: h}
		if e.Count > 1 {
			m.Count = e.Count
		}
		out = append(out, moment(m))
	}
	return out
}

func moment(m Moment) Moment {
	m.At, m.Source, m.Reason, m.Text = when(m.at), text.Cut(m.Source, maxWord), text.Cut(m.Reason, maxWord), cut(m.Text)
	return m
}

// problems are the words of the conditions that say that something is wrong, each once.
func problems(conditions []metav1.Condition, deleted *metav1.Time) (out []string) {
	if deleted != nil {
		out = append(out, "Deleting: waits for the hosts to confirm that they no longer carry it")
	}
	told := map[string]bool{}
	for _, kind := range slices.Concat(badFalse, badTrue) {
		for _, c := range conditions {
			if text := wrong(c); c.Type == kind && text != "" && !told[c.Message] && len(out) < maxSummary {
				told[c.Message] = true
				out = append(out, text)
			}
		}
	}
	return out
}

// badFalse are the conditions that should be True, the more exact ones first: Ready
// repeats what they say. badTrue should be False, or not there.
var (
	badFalse = []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionProgrammed, v1alpha1.ConditionServiceProgrammed,
		v1alpha1.ConditionBackendsHealthy, v1alpha1.ConditionReady}
	badTrue = []string{v1alpha1.ConditionDegraded, v1alpha1.ConditionStalled, v1alpha1.ConditionPortsError, v1alpha1.ConditionMoving}
)

// backends is the condition about nodes that are down; nil: none was so far.
func backends(conditions []metav1.Condition) *Moment {
	c := meta.FindStatusCondition(conditions, v1alpha1.ConditionBackendsHealthy)
	if c == nil {
		return nil
	}
	return new(ofCondition("", *c, wrong(*c) != ""))
}

// wrong is what a condition says if all is not well, "" if it is.
func wrong(c metav1.Condition) string {
	fine := true
	switch {
	case slices.Contains(badFalse, c.Type):
		// True for another reason: in force, with something to say.
		fine = c.Status == metav1.ConditionTrue && slices.Contains([]string{v1alpha1.ReasonAccepted, v1alpha1.ReasonProgrammed, v1alpha1.ReasonAllNodesUp}, c.Reason)
	case slices.Contains(badTrue, c.Type):
		fine = c.Status != metav1.ConditionTrue
	}
	if fine {
		return ""
	}
	return words(c.Reason, c.Message, c.Type)
}

// words of a reason and a message, or others if there are none.
func words(reason, message, others string) string {
	said := strings.TrimPrefix(reason+": "+message, ": ")
	return cut(cmp.Or(strings.TrimSuffix(said, ": "), others))
}

// cut ends a text that is too long.
func cut(s string) string { return text.Cut(s, maxText) }

func short(digest string) string { return digest[:min(12, len(digest))] }

func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
