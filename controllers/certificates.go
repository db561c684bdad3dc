package controllers

import (
	"context"
	"fmt"
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

// certificates reads what the Secrets hold that policies name. A Secret is parsed
// once for each of its versions.
type certificates struct {
	reader  reader
	allowed bool // to read Secrets of any namespace

	mu   sync.Mutex
	read map[client.ObjectKey]readCertificate // of the policies of last time
}

// readCertificate is what a version of a Secret holds.
type readCertificate struct {
	uid     types.UID
	version string
	translate.Certificate
}

// of some policies: what they name no longer is forgotten.
func (c *certificates) of(ctx context.Context, policies []*v1alpha1.UpstreamPolicy) (translate.Certificates, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := map[client.ObjectKey]readCertificate{}
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
			next[key], out[key] = now, now.Certificate
		}
	}
	c.read = next
	return out, nil
}

func (c *certificates) one(ctx context.Context, key client.ObjectKey) (now readCertificate, found bool, err error) {
	var secret corev1.Secret
	err = c.reader.Get(ctx, key, &secret, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) {
		return now, false, nil
	}
	if err != nil {
		return now, false, fmt.Errorf("reading the cache: %w", err)
	}
	if was := c.read[key]; was.uid == secret.UID && was.version == secret.ResourceVersion {
		return was, true, nil
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

// named reports whether a policy names a Secret.
func (r reader) named(ctx context.Context, secret client.Object) bool {
	var policies v1alpha1.UpstreamPolicyList
	if err := r.list(ctx, &policies, client.InNamespace(secret.GetNamespace())); err != nil {
		return false // the cache is not there any more: we are stopping
	}
	return slices.Contains(secretsOf(pointers(policies.Items)), client.ObjectKeyFromObject(secret))
}

// turns is how long it takes until the next of some certificates becomes valid or
// expires; 0: none will.
func turns(all translate.Certificates, now time.Time) time.Duration {
	var next time.Duration
	for _, c := range all {
		if c.Served == nil {
			continue
		}
		for _, at := range []time.Time{c.Served.NotBefore, c.Served.NotAfter} {
			if wait := at.Sub(now) + time.Second; at.After(now) && (next == 0 || wait < next) {
				next = wait
			}
		}
	}
	return min(next, longestWait)
}

// longestWait: clocks are set, and machines sleep.
const longestWait = 12 * time.Hour
