package controllers

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
)

// Targets are a Balancer's hosts with what is needed to reach them, from Secrets
// in a namespace.
func Targets(ctx context.Context, r client.Reader, namespace string, b *v1alpha1.Balancer) []deliver.Target {
	interval, err := time.ParseDuration(string(b.Spec.Reload.MinInterval))
	if err != nil {
		interval = time.Second // the schema's default; it also refuses what does not parse
	}
	targets := make([]deliver.Target, 0, len(b.Spec.Hosts))
	for _, h := range b.Spec.Hosts {
		t := deliver.Target{Balancer: b.Name, Engine: string(b.Spec.Engine), Host: h, MinInterval: interval}
		if h.SecretRef != nil {
			t.PrivateKey, t.KnownHosts, t.Problem = credentials(ctx, r, client.ObjectKey{Namespace: namespace, Name: h.SecretRef.Name})
		}
		targets = append(targets, t)
	}
	return targets
}

// knownHostsKey is the key of a Secret that holds what ssh-keyscan prints.
const knownHostsKey = "known_hosts"

func credentials(ctx context.Context, r client.Reader, name client.ObjectKey) (key, knownHosts []byte, err error) {
	var secret corev1.Secret
	err = r.Get(ctx, name, &secret)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil, fmt.Errorf("there is no Secret %s: create it with the keys %s and %s", name, corev1.SSHAuthPrivateKey, knownHostsKey)
	case err != nil:
		return nil, nil, fmt.Errorf("reading Secret %s: %w", name, err)
	}
	for _, k := range []string{corev1.SSHAuthPrivateKey, knownHostsKey} {
		if len(secret.Data[k]) == 0 {
			return nil, nil, fmt.Errorf("the Secret %s lacks the key %s", name, k)
		}
	}
	return secret.Data[corev1.SSHAuthPrivateKey], secret.Data[knownHostsKey], nil
}
