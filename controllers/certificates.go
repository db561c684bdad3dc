package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/internal/text"
	"github.com/external-lb/external-lb/internal/translate"
)

// certificates reads what the Secrets hold that policies name. The cache knows which
// Secrets there are, and nothing of what is in them: a Secret that a policy names is read
// and parsed once for each of its versions.
type certificates struct {
	reader  reader
	content client.Reader // of the API server itself
	allowed bool          // to read Secrets of any namespace

	mu   sync.Mutex
	read map[client.ObjectKey]readCertificate
}

// readCertificate is what was read of a Secret last.
type readCertificate struct {
	uid     types.UID
	version string
	translate.Certificate

	asked string // the version that could not be read since
	err   error  // why not; nil: what is here is the newest
	failing
}

// readTime is how long the Secrets of one look may take. Whoever keeps the keys of the API
// server's storage may hang.
const readTime = 15 * time.Second

// found is what Secrets hold, and which could not be read.
type found struct {
	translate.Certificates
	unread map[client.ObjectKey]error // of these an older version is served, or nothing
	again  time.Duration              // until the first of these is tried again; 0: there is none
}

// whyUnread names the Secrets that could not be read, each with why.
func (f found) whyUnread() (all []string) {
	for key, err := range f.unread {
		all = append(all, fmt.Sprintf("%s: %s", key, text.Cut(err.Error(), maxAPIWords)))
	}
	slices.Sort(all)
	return all
}

// forget the Secrets that no policy names any more, of all that there are.
func (c *certificates) forget(policies []*v1alpha1.UpstreamPolicy) {
	named := map[client.ObjectKey]bool{}
	for _, key := range secretsOf(policies) {
		named[key] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.read, func(key client.ObjectKey, _ readCertificate) bool { return !named[key] })
}

// of some policies. One Secret that cannot be read is no error: the others are served. It is
// one that we are stopping.
func (c *certificates) of(ctx context.Context, policies []*v1alpha1.UpstreamPolicy) (found, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := found{Certificates: translate.Certificates{}, unread: map[client.ObjectKey]error{}}
	keys := secretsOf(policies)
	if !c.allowed {
		for _, key := range keys {
			out.Certificates[key] = translate.UnreadableCertificate()
		}
		return out, nil
	}
	if c.read == nil {
		c.read = map[client.ObjectKey]readCertificate{}
	}
	now, there := make([]readCertificate, len(keys)), make([]bool, len(keys))
	within, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	_ = each(within, indexes(keys), func(ctx context.Context, i int) error { // what fails is in now
		now[i], there[i] = c.one(ctx, keys[i])
		return nil
	})
	if err := ctx.Err(); err != nil {
		return found{}, err
	}
	for i, key := range keys {
		if !there[i] {
			continue
		}
		c.read[key], out.Certificates[key] = now[i], now[i].Certificate
		if now[i].err != nil {
			out.unread[key] = now[i].err
			out.again = sooner(out.again, max(time.Until(now[i].until), time.Millisecond))
		}
	}
	return out, nil
}

// readCertificates reads the Secrets of the Services that a Balancer carries.
func (r *balancerReconciler) readCertificates(ctx context.Context, s *scope) (err error) {
	r.certs.forget(s.objects.Policies)
	policies := slices.DeleteFunc(slices.Clone(s.objects.Policies), func(p *v1alpha1.UpstreamPolicy) bool { return p.Spec.TLS == nil })
	targets := map[client.ObjectKey][]*v1alpha1.UpstreamPolicy{}
	for _, p := range policies {
		for _, name := range translate.Targets(p) {
			key := client.ObjectKey{Namespace: p.Namespace, Name: name}
			targets[key] = append(targets[key], p)
		}
	}
	if len(targets) == 0 {
		return nil
	}
	carried := map[*v1alpha1.UpstreamPolicy]*corev1.Service{} // one of them, that hosts may serve where there is one
	for _, svc := range s.assigned.Carried {
		for _, p := range targets[client.ObjectKeyFromObject(svc)] {
			if carried[p] == nil || record.Held(svc) {
				carried[p] = svc
			}
		}
	}
	policies = slices.DeleteFunc(policies, func(p *v1alpha1.UpstreamPolicy) bool { return carried[p] == nil })
	if s.certificates, err = r.certs.of(ctx, policies); err != nil {
		return err
	}
	s.snapshot.Certificates = s.certificates.Certificates
	for _, p := range policies {
		key := secretOf(p)
		s.losing = s.losing || s.certificates.unread[key] != nil && s.certificates.Certificates[key].Served == nil && record.Held(carried[p])
	}
	return nil
}

// keepsCertificates reports whether hosts go on with certificates that this process could not
// read since it began to lead: it has told them nothing yet.
func (s *scope) keepsCertificates() bool { return s.losing && !s.memory.planned }

// sooner is the shorter of two times to wait. 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// one Secret, if there is one. The one that was read last stays where a newer one cannot be read.
func (c *certificates) one(ctx context.Context, key client.ObjectKey) (now readCertificate, there bool) {
	var known, secret corev1.Secret
	was := c.read[key]
	err := c.reader.Get(ctx, key, &known, client.UnsafeDisableDeepCopy)
	if err == nil {
		switch {
		case was.uid == known.UID && was.version == known.ResourceVersion:
			return readCertificate{uid: was.uid, version: was.version, Certificate: was.Certificate}, true
		case was.err != nil && was.asked == known.ResourceVersion && time.Now().Before(was.until):
			return was, true
		}
		err = c.content.Get(ctx, key, &secret)
	}
	if apierrors.IsNotFound(err) {
		return now, false
	}
	if err == nil {
		return readCertificate{uid: secret.UID, version: secret.ResourceVersion, Certificate: translate.ReadCertificate(&secret)}, true
	}
	log.FromContext(ctx).Error(err, "Secret not read", "secret", key)
	if was.uid != "" && known.UID != "" && was.uid != known.UID {
		was = readCertificate{} // another Secret of that name
	}
	was.fail()
	if was.told.news(was.fails, err.Error()) {
		was.err = err
	}
	if was.uid == "" {
		was.Certificate = unread(key, was.err)
	}
	was.asked = known.ResourceVersion
	return was, true
}

// unread is what is known of a Secret that the API server does not give.
func unread(secret client.ObjectKey, why error) translate.Certificate {
	return translate.Certificate{Problem: &translate.Problem{Reason: v1alpha1.ReasonSecretsUnreadable, Fatal: true,
		Message: fmt.Sprintf("the Secret %s cannot be read, and is tried again: %s", secret.Name, text.Cut(why.Error(), maxAPIWords))}}
}

// secretsOf are the Secrets that policies name, each once.
func secretsOf(policies []*v1alpha1.UpstreamPolicy) (keys []client.ObjectKey) {
	seen := map[client.ObjectKey]bool{}
	for _, p := range policies {
		if p.Spec.TLS == nil || seen[secretOf(p)] {
			continue
		}
		seen[secretOf(p)] = true
		keys = append(keys, secretOf(p))
	}
	return keys
}

func secretOf(p *v1alpha1.UpstreamPolicy) client.ObjectKey {
	return client.ObjectKey{Namespace: p.Namespace, Name: p.Spec.TLS.SecretRef.Name}
}

// naming are the policies that name a Secret.
func (r reader) naming(ctx context.Context, secret client.Object) []*v1alpha1.UpstreamPolicy {
	var policies v1alpha1.UpstreamPolicyList
	if err := r.list(ctx, &policies, client.InNamespace(secret.GetNamespace())); err != nil {
		return nil // the cache is not there any more: we are stopping
	}
	return slices.DeleteFunc(pointers(policies.Items), func(p *v1alpha1.UpstreamPolicy) bool {
		return !slices.Contains(secretsOf([]*v1alpha1.UpstreamPolicy{p}), client.ObjectKeyFromObject(secret))
	})
}

// turns is how long it takes until something else is to be told of one of some certificates:
// that it is valid, is about to expire or has expired; 0: that will not be.
func turns(all translate.Certificates, now time.Time) time.Duration {
	var next time.Duration
	for _, c := range all {
		if c.Served == nil {
			continue
		}
		for _, at := range translate.Turns(c.Served) {
			if wait := min(at.Sub(now), longestWait) + time.Second; at.After(now) && (next == 0 || wait < next) {
				next = wait
			}
		}
	}
	return next
}

// longestWait: clocks are set, and machines sleep.
const longestWait = 12 * time.Hour
