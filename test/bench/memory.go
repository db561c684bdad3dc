package main

import (
	"context"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/bench/report"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/lab"
)

// memory of the controller in large clusters: a real API server, and nothing else. Its one host cannot be reached,
// so that no host's memory bounds the size; what the controller would send is planned all the same.
func (b *bench) memory(ctx context.Context) error {
	sizes := memoryScale.of(b.options)
	for _, s := range sizes {
		o := lab.Options{Cluster: cluster.Options{ControlPlaneOnly: true}, Balancer: balancer, Change: func(bal *v1alpha1.Balancer) {
			key := corev1.LocalObjectReference{Name: lab.SecretName}
			bal.Spec.Hosts = []v1alpha1.Host{{Name: "away", Address: "127.0.0.1", Port: 1, SecretRef: &key}}
		}}
		err := b.inLab(ctx, max(s.services, fewServices+1), o, func(ctx context.Context) error { return b.memoryOf(ctx, s) })
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

func (b *bench) memoryOf(ctx context.Context, s size) error {
	for i := range s.nodes {
		if err := b.fullNode(ctx, i); err != nil {
			return err
		}
	}
	if _, err := b.create(ctx, 0, s.services); err != nil {
		return err
	}
	for i := range s.services {
		// One of ours, and one of a Service that no Balancer serves, of which there are many in a cluster.
		for _, of := range []string{serviceName(i), "other-" + serviceName(i)} {
			if err := b.Kube.Create(ctx, endpoints(of, s.nodes, i)); err != nil {
				return err
			}
		}
	}
	if err := b.planned(ctx, s); err != nil {
		return err
	}
	if _, err := b.settled(ctx); err != nil { // all is on record
		return err
	}
	for range b.options.runs {
		began := time.Now()
		if err := b.restart(ctx); err != nil {
			return err
		}
		if err := b.planned(ctx, s); err != nil {
			return err
		}
		figures := map[report.Metric]float64{report.Total: since(began)}
		if _, err := b.settled(ctx); err != nil {
			return err
		}
		var err error
		if figures[report.ControllerPeak], figures[report.ControllerAfter], err = resident(b.Manager.PID()); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%s: %.0f MB, at most %.0f MB\n", s, figures[report.ControllerAfter], figures[report.ControllerPeak])
		b.samples.Add("all is on record, and planned", s.services, s.nodes, figures)
	}
	return nil
}

// planned waits until the controller knows all Services.
func (b *bench) planned(ctx context.Context, s size) error {
	return b.until(ctx, s.services, "all Services are planned", func() (bool, error) {
		families, err := scrape(ctx, b.Manager.Metrics)
		nodes, services := sum(families["external_lb_nodes"], nil), sum(families["external_lb_services"], nil)
		return int(services) == s.services && int(nodes) == s.nodes, err
	})
}

// fullNode has what a kubelet tells of itself, such as its images, beside what matters.
func (b *bench) fullNode(ctx context.Context, i int) error {
	node := builder.Node(nodeName(i)).Label(corev1.LabelHostname, nodeName(i)).Label(corev1.LabelTopologyZone, fmt.Sprintf("zone-%d", i%3)).
		IP(fmt.Sprintf("10.99.%d.%d", i/250, 1+i%250)).With(func(n *corev1.Node) {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"}}
		for image := range 50 {
			n.Status.Images = append(n.Status.Images, corev1.ContainerImage{SizeBytes: 1 << 28, Names: []string{
				fmt.Sprintf("registry.example/team-%d/application-%d@sha256:%064d", i%7, image, image),
				fmt.Sprintf("registry.example/team-%d/application-%d:v1.2.%d", i%7, image, i)}})
		}
	}).Manifest()
	status := node.Status
	if err := b.Kube.Create(ctx, node); err != nil {
		return err
	}
	node.Status = status
	return b.Kube.Status().Update(ctx, node)
}

// endpoints of a Service: three pods on nodes of a cluster.
func endpoints(service string, nodes, i int) *discoveryv1.EndpointSlice {
	s := builder.EndpointSlice(namespace, service, discoveryv1.AddressTypeIPv4).Label(discoveryv1.LabelServiceName, service).Manifest()
	s.Ports = []discoveryv1.EndpointPort{{Name: ptr.To("p80"), Port: ptr.To[int32](8080), Protocol: ptr.To(corev1.ProtocolTCP)}}
	for pod := range 3 {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{fmt.Sprintf("10.%d.%d.%d", 100+pod, i/250%256, 1+i%250)},
			NodeName:   ptr.To(nodeName((i*3 + pod) % nodes)),
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true), Serving: ptr.To(true), Terminating: ptr.To(false)},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: fmt.Sprintf("%s-%d", service, pod)},
		})
	}
	return s
}
