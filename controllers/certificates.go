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

	"github.com/external-lb/external-lb/api/v1alpha1"
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

// readCertificate is what a version of a Secret holds.
type readCertificate struct {
	uid     types.UID
	version string
	translate.Certificate
}

// ofAll policies that there are: what they name no longer is forgotten.
func (c *certificates) ofAll(ctx context.Context, policies []*v1alpha1.UpstreamPolicy) (translate.Certificates, error) {
	out, err := c.of(ctx, policies)
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		maps.DeleteFunc(c.read, func(key client.ObjectKey, _ readCertificate) bool { _, named := out[key]; return !named })
	}
	return out, err
}

// of some policies.
func (c *certificates) of(ctx context.Context, policies []*v1alpha1.UpstreamPolicy) (translate.Certificates, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.read == nil {
		c.read = map[client.ObjectKey]readCertificate{}
	}
	out := translate.Certificates{}
	for _, key := range secretsOf(policies) {
		if !c.allowed {
			out[key] = translate.UnreadableCertificate()
			continue
		}
		now, found, err := c.one(ctx, key)
		if err != nil {
			return nil, err
		}
		if found {
			c.read[key], out[key] = now, now.Certificate
		}
	}
	return out, nil
}

func (c *certificates) one(ctx context.Context, key client.ObjectKey) (now readCertificate, found bool, err error) {
	var known, secret corev1.Secret
	if err = c.reader.Get(ctx, key, &known, client.UnsafeDisableDeepCopy); err == nil {
		if was := c.read[key]; was.uid == known.UID && was.version == known.ResourceVersion {
			return was, true, nil
		}
		err = c.content.Get(ctx, key, &secret)
	}
	if apierrors.IsNotFound(err) {
		return now, false, nil
	}
	if err != nil {
		return now, false, fmt.Errorf("reading the Secret %s: %w", key, err)
	}
	return readCertificate{secret.UID, secret.ResourceVersion, translate.ReadCertificate(&secret)}, true, nil
}

// secretsOf are the Secrets that policies name.
func secretsOf(policies []*v1alpha1.UpstreamPolicy) []client.ObjectKey {
	var keys []client.ObjectKey
	for _, p := range policies {
		if p.Spec.TLS != nil {
			keys = append(keys, client.ObjectKey{Namespace: p.Namespace, Name: p.Spec.TLS.SecretRef.Name})
		}
	}
	return keys
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
