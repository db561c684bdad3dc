package translate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/certificate"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

// Certificates are what the Secrets hold that policies name in spec.tls. A Secret
// that is not among them does not exist.
type Certificates map[types.NamespacedName]Certificate

// Certificate is what a Secret holds: something that can be served, or why it has
// nothing of the kind.
type Certificate struct {
	Served  *lb.Certificate
	Problem *Problem
}

// ReadCertificate reads a Secret.
func ReadCertificate(secret *corev1.Secret) Certificate {
	if secret.Type != corev1.SecretTypeTLS {
		return unusable(v1alpha1.ReasonCertificateInvalid, "the Secret %s is of type %s, want %s: create it with `kubectl create secret tls`",
			clip(secret.Name), quoted(string(secret.Type)), corev1.SecretTypeTLS)
	}
	c, err := certificate.Parse(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return unusable(v1alpha1.ReasonCertificateInvalid, "the Secret %s: %v", clip(secret.Name), err)
	}
	return Certificate{Served: c}
}

// UnreadableCertificate is what is known of a Secret that the controller may not read.
func UnreadableCertificate() Certificate {
	return unusable(v1alpha1.ReasonSecretsUnreadable,
		"the controller may not read certificates: add config/components/tls to its kustomization, which gives it the right and the flag --tls-secrets")
}

func unusable(reason, format string, args ...any) Certificate {
	return Certificate{Problem: &Problem{Reason: reason, Message: fmt.Sprintf(format, args...), Fatal: true}}
}

func (all Certificates) of(namespace, secret string) Certificate {
	if c, ok := all[types.NamespacedName{Namespace: namespace, Name: secret}]; ok {
		return c
	}
	return unusable(v1alpha1.ReasonSecretNotFound, "there is no Secret %s of type %s in the namespace %s: create it, for example with `kubectl create secret tls`",
		clip(secret), corev1.SecretTypeTLS, namespace)
}

// tlsField is the setting's name in engine.Fields. It is no field of
// UpstreamSettings: a Balancer has no certificate for all its Services.
const tlsField engine.Field = "tls.secretRef"

// tlsAt is the policy that says with which certificate a port's TLS is terminated:
// one for the port before one for the Service, and of several the oldest. nil: it
// is not. closed: one that does not count has TLS for the port.
func (p precedence) tlsAt(port string) (by *v1alpha1.UpstreamPolicy, closed bool) {
	for _, section := range slices.Compact([]string{port, ""}) {
		for _, policy := range p.sections[section] {
			if policy.Spec.TLS != nil {
				return policy, false
			}
		}
	}
	return nil, p.closed[port] || p.closed[""]
}

// tlsPort is what becomes of a port because of TLS.
type tlsPort struct {
	certificate string  // its name; "": the port is carried as it is
	cloud       string  // the name of one that a cloud's provider offers
	portError   string  // "": it is carried
	problem     Problem // why not
}

// tlsOf settles TLS for a port. Where it cannot be terminated, the port is not
// carried: never is anybody served in plain text who was promised TLS.
func (t *translation) tlsOf(port corev1.ServicePort) tlsPort {
	policy, closed := t.precedence.tlsAt(port.Name)
	named := t.offered.of(port)
	switch {
	case lb.Protocol(port.Protocol) != lb.TCP || policy == nil && named == "" && !closed:
		return tlsPort{}
	case closed:
		return tlsPort{portError: v1alpha1.PortErrorTLS, problem: Problem{Reason: v1alpha1.ReasonTLSNotSupported, Message: tooManyPolicies +
			", and one of the others has TLS for the port, which is not to be open without"}}
	case named != "" && !t.cloud:
		return tlsPort{portError: v1alpha1.PortErrorTLS, problem: Problem{Reason: v1alpha1.ReasonTLSNotSupported,
			Message: fmt.Sprintf("the annotation %s names a certificate of a cloud's provider, and hosts have none: see spec.tls of an UpstreamPolicy", v1alpha1.CertificateAnnotation)}}
	case policy == nil:
		return tlsPort{cloud: named}
	}
	if reason := t.carriers.Main.Unsupported(tlsField, lb.TCP); reason != "" {
		return tlsPort{portError: v1alpha1.PortErrorTLS, problem: Problem{Reason: v1alpha1.ReasonTLSNotSupported, Message: reason}}
	}
	c := t.certificates.of(policy.Namespace, policy.Spec.TLS.SecretRef.Name)
	if c.Served == nil {
		return tlsPort{portError: v1alpha1.PortErrorCertificate, problem: Problem{Reason: v1alpha1.ReasonNoCertificate, Message: c.Problem.Message}}
	}
	return tlsPort{certificate: c.Served.Name()}
}

// appendCertificates appends what changes with the certificates of a Service's policies.
func (t *translation) appendCertificates(b []byte) []byte {
	for _, p := range t.precedence.policies {
		if p.Spec.TLS == nil {
			continue
		}
		c := t.certificates.of(p.Namespace, p.Spec.TLS.SecretRef.Name)
		if c.Served != nil {
			b = append(b, c.Served.Name()...)
		} else {
			b = append(b, c.Problem.Message...)
		}
		b = append(b, 0)
	}
	return b
}

// certificateReady says whether the certificate of a target's policy can be served
// now, and is valid then.
func (t target) certificateReady(c Certificate, now time.Time) metav1.Condition {
	if c.Served == nil {
		return t.condition(v1alpha1.ConditionCertificateReady, false, c.Problem.Reason, c.Problem.Message+". Until then no port is served with it, and none without TLS")
	}
	from, until := date(c.Served.NotBefore), date(c.Served.NotAfter)
	switch {
	case now.After(c.Served.NotAfter):
		return t.condition(v1alpha1.ConditionCertificateReady, false, v1alpha1.ReasonCertificateExpired,
			"the certificate expired at "+until+" and is served still: put a new one into the Secret")
	case now.Before(c.Served.NotBefore):
		return t.condition(v1alpha1.ConditionCertificateReady, false, v1alpha1.ReasonCertificateEarly,
			"the certificate is valid only from "+from+" and is served already: put one into the Secret that is valid now, or set the clocks right")
	}
	for _, left := range warnings(c.Served) {
		if c.Served.NotAfter.Sub(now) < left {
			return t.condition(v1alpha1.ConditionCertificateReady, true, v1alpha1.ReasonCertificateExpiring,
				"the certificate expires at "+until+", in less than "+days(left)+": put a new one into the Secret, or see why what renews it has not")
		}
	}
	return t.condition(v1alpha1.ConditionCertificateReady, true, v1alpha1.ReasonCertificateValid, "valid until "+until)
}

// warnings are how long a certificate is still valid when it is told that it expires: the last
// one first. One that is made for a short time is renewed late.
func warnings(c *lb.Certificate) []time.Duration {
	const day = 24 * time.Hour
	lifetime := c.NotAfter.Sub(c.NotBefore)
	return []time.Duration{min(3*day, lifetime/8), min(14*day, lifetime/4)}
}

// Turns are the times at which what is told of a certificate changes.
func Turns(c *lb.Certificate) []time.Time {
	out := []time.Time{c.NotBefore, c.NotAfter}
	for _, left := range warnings(c) {
		out = append(out, c.NotAfter.Add(-left))
	}
	return out
}

// days are how people say a long time.
func days(d time.Duration) string {
	const day = 24 * time.Hour
	if d < 2*day {
		return d.Round(time.Minute).String()
	}
	return fmt.Sprintf("%d days", d/day)
}

func date(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// unsupportedTLS is why TLS is not terminated at some port of a target, "" if it
// is at all of them.
func (t target) unsupportedTLS(uses []use) string {
	if t.policy.Spec.TLS == nil {
		return ""
	}
	for _, u := range uses {
		if reason := t.by.Engines.Main.Unsupported(tlsField, u.protocol); reason != "" {
			return fmt.Sprintf("%s: %s", tlsField, reason)
		}
	}
	return ""
}

// notTerminated sums up the ports that are not carried because of TLS.
type notTerminated struct {
	reason      string // of v1alpha1: one, since they are on one engine
	ports, whys []string
}

func (n *notTerminated) add(port string, p Problem) {
	n.reason = p.Reason
	n.ports = append(n.ports, port)
	if !slices.Contains(n.whys, p.Message) {
		n.whys = append(n.whys, p.Message)
	}
}

func (n *notTerminated) String() string {
	return fmt.Sprintf("TLS cannot be terminated for %s: %s", strings.Join(n.ports, ", "), strings.Join(n.whys, "; "))
}
