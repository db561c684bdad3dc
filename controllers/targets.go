package controllers

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/translate"
)

// Targets are a Balancer's hosts with what is needed to reach them, from Secrets
// in a namespace. Of all Balancers, the oldest that names a machine has it.
func Targets(ctx context.Context, r client.Reader, namespace string, b *v1alpha1.Balancer, all []*v1alpha1.Balancer) []deliver.Target {
	interval, err := time.ParseDuration(string(b.Spec.Reload.MinInterval))
	if err != nil {
		interval = time.Second // the schema's default; it also refuses what does not parse
	}
	if b.Spec.Provider != nil {
		return []deliver.Target{providerOf(ctx, r, namespace, b, interval)}
	}
	taken, engine := takenBefore(b, all), translate.Carriers(b).String()
	targets := make([]deliver.Target, 0, len(b.Spec.Hosts))
	for _, h := range b.Spec.Hosts {
		t := deliver.Target{Balancer: b.Name, Since: b.CreationTimestamp.Time, Engine: engine, Host: h, MinInterval: interval}
		switch why := taken[t.Machine()]; {
		case why != "":
			t.Problem = &deliver.Error{Reason: deliver.ReasonTaken, Message: why}
		case h.SecretRef != nil:
			var secret map[string][]byte
			secret, t.Problem = credentials(ctx, r, client.ObjectKey{Namespace: namespace, Name: h.SecretRef.Name}, corev1.SSHAuthPrivateKey, knownHostsKey)
			t.PrivateKey, t.KnownHosts = secret[corev1.SSHAuthPrivateKey], secret[knownHostsKey]
		}
		targets = append(targets, t)
		taken[t.Machine()] = fmt.Sprintf("host %s is the same machine: name each of them once", h.Name)
	}
	return targets
}

// providerOf is the provider of a Balancer, with what is needed to reach it.
func providerOf(ctx context.Context, r client.Reader, namespace string, b *v1alpha1.Balancer, interval time.Duration) deliver.Target {
	spec := b.Spec.Provider
	secret, problem := credentials(ctx, r, client.ObjectKey{Namespace: namespace, Name: spec.SecretRef.Name}, tokenKey)
	return deliver.Target{
		Balancer: b.Name, Since: b.CreationTimestamp.Time, Engine: string(b.Spec.Engine), MinInterval: interval, Problem: problem,
		Host:     b.Spec.AllHosts()[0],
		Provider: &deliver.Provider{URL: spec.URL, Token: bytes.TrimSpace(secret[tokenKey]), Roots: secret[rootsKey]},
	}
}

// takenBefore says of the machines of older Balancers, also of those that are being
// deleted, why a Balancer leaves them alone: each of two would remove what the other
// one brings, again and again.
func takenBefore(b *v1alpha1.Balancer, all []*v1alpha1.Balancer) map[string]string {
	taken := map[string]string{}
	for _, other := range slices.Backward(slices.SortedFunc(slices.Values(all), plan.ByAge)) {
		if plan.ByAge(other, b) >= 0 {
			continue
		}
		for _, h := range other.Spec.Hosts { // the oldest comes last
			taken[deliver.Target{Host: h}.Machine()] = fmt.Sprintf(
				"Balancer %s, which is older, has this machine: name another one, since a machine runs the configuration of one Balancer", other.Name)
		}
	}
	return taken
}

// Keys of Secrets.
const (
	knownHostsKey = "known_hosts" // what ssh-keyscan prints
	tokenKey      = "token"       // that requests to a provider bear
	rootsKey      = "ca.crt"      // certificates that a provider's is signed by; optional
)

// credentials are what a Secret holds, by key. It must have some.
func credentials(ctx context.Context, r client.Reader, name client.ObjectKey, keys ...string) (map[string][]byte, error) {
	var secret corev1.Secret
	err := r.Get(ctx, name, &secret)
	switch {
	case apierrors.IsNotFound(err) && len(keys) == 1:
		return nil, fmt.Errorf("there is no Secret %s: create it with the key %s", name, keys[0])
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("there is no Secret %s: create it with the keys %s", name, strings.Join(keys, " and "))
	case err != nil:
		return nil, fmt.Errorf("reading Secret %s: %w", name, err)
	}
	for _, k := range keys {
		if len(secret.Data[k]) == 0 {
			return nil, fmt.Errorf("the Secret %s lacks the key %s", name, k)
		}
	}
	return secret.Data, nil
}
