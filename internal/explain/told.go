package explain

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/internal/translate"
)

// policies are those that target the Service, as the controller reported on them.
func (e *explanation) policies() {
	if !e.read(Policies) {
		e.unknown(LinkPolicy, "%s", e.unread(Policies))
		return
	}
	for _, p := range e.Objects.Policies {
		for _, ref := range p.Spec.TargetRefs {
			if p.Namespace == e.Service.Namespace && ref.Name == e.Service.Name {
				e.policy(p, ref)
			}
		}
	}
}

func (e *explanation) policy(p *v1alpha1.UpstreamPolicy, ref v1alpha1.PolicyTargetReference) {
	what := p.Name
	if ref.SectionName != "" {
		what += ", for port " + ref.SectionName
	}
	i := slices.IndexFunc(p.Status.Targets, func(t v1alpha1.PolicyTargetStatus) bool { return t.TargetRef == ref })
	if i < 0 || p.Status.ObservedGeneration < p.Generation {
		e.unknown(LinkPolicy, "%s: the controller has not looked at it yet", what)
		return
	}
	all := true
	for _, c := range p.Status.Targets[i].Conditions {
		if !translate.Wrong(c) {
			continue
		}
		all = false
		f := Finding{Link: LinkPolicy, State: Wrong, Reason: c.Reason, Message: fmt.Sprintf("%s: %s", what, c.Message), See: seePolicy}
		if c.Type == v1alpha1.ConditionCertificateReady {
			f.See = seeTLS
		}
		if c.Reason == v1alpha1.ReasonCertificateExpiring {
			f.State, f.See = OK, seeExpires // it is valid still
		}
		e.add(f)
	}
	if all {
		e.reported(Finding{Link: LinkPolicy, State: OK, Message: what + " is in force"})
	}
}

// status is what the Service's users are told.
func (e *explanation) status() {
	programmed, has := e.told(v1alpha1.ConditionServiceProgrammed), record.Shows(e.Service)
	said := slices.ContainsFunc(e.chain, func(f Finding) bool { return f.State == Wrong && f.Reason == programmed.Reason })
	switch {
	case programmed.Reason == v1alpha1.ReasonPending:
		e.unknown(LinkStatus, "%s", programmed.Message)
	case programmed.Status == metav1.ConditionFalse && said:
	case programmed.Status == metav1.ConditionFalse:
		e.add(Finding{Link: LinkStatus, State: Wrong, Reason: programmed.Reason, Message: programmed.Message, See: places[programmed.Reason].see})
	case len(has) == 0 && e.chain.First() == nil:
		e.add(Finding{Link: LinkStatus, State: Wrong, See: seeAddress, Message: "no address is published, and the controller has not said why: " +
			"it is at work, or it does not run"})
	case len(has) > 0 && programmed.Status == "":
		e.unknown(LinkStatus, "%s is published, and the controller does not say that it is live", strings.Join(has, ","))
	case len(has) > 0 && said:
		e.reported(Finding{Link: LinkStatus, State: OK, Message: strings.Join(has, ",") + " is published"})
	case len(has) > 0:
		e.reported(Finding{Link: LinkStatus, State: OK, Message: fmt.Sprintf("%s is published: %s", strings.Join(has, ","), programmed.Message)})
	}
}
