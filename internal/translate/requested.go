package translate

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
)

// requests are the annotations by which a Service asks for addresses, and for a pool.
type requests struct{ addresses, pool, sharing []string }

// noneOfOurs: an AddressPool says whether Services share its addresses, and no annotation does.
const noneOfOurs = ""

// foreign are those of other providers.
var foreign = map[v1alpha1.AnnotationProvider]requests{
	v1alpha1.AnnotationsMetalLB: {
		addresses: []string{"metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs"},
		pool:      []string{"metallb.io/address-pool", "metallb.universe.tf/address-pool"},
		sharing:   []string{"metallb.io/allow-shared-ip", "metallb.universe.tf/allow-shared-ip"},
	},
}

// ReadsAnnotation reports whether anything is made of an annotation of a Service.
func ReadsAnnotation(name string) bool {
	if strings.HasPrefix(name, v1alpha1.GroupVersion.Group+"/") || name == v1alpha1.SourceRangesAnnotation {
		return true
	}
	for _, r := range foreign {
		if slices.Contains(r.addresses, name) || slices.Contains(r.pool, name) || slices.Contains(r.sharing, name) {
			return true
		}
	}
	return false
}

// asked are the annotations of a Service among ours and those of providers that are not empty.
func asked(svc *corev1.Service, ours string, of func(requests) []string, providers []v1alpha1.AnnotationProvider) (names []string) {
	all := []string{ours}
	for _, p := range providers {
		all = append(all, of(foreign[p])...)
	}
	for _, name := range all {
		if strings.TrimSpace(svc.Annotations[name]) != "" {
			names = append(names, name)
		}
	}
	return names
}

// RequestedAddresses are the addresses that a Service asks for by annotation, ours or one of
// providers, or, in the older way, by spec.loadBalancerIP, at most one of each family. Several
// annotations ask for the same; the older one may be set as well if they name it, too.
func RequestedAddresses(svc *corev1.Service, providers ...v1alpha1.AnnotationProvider) ([]netip.Addr, *Problem) {
	const field = "spec.loadBalancerIP"
	older := strings.TrimSpace(svc.Spec.LoadBalancerIP)
	names := asked(svc, v1alpha1.AddressesAnnotation, func(r requests) []string { return r.addresses }, providers)
	if len(names) == 0 {
		if older == "" {
			return nil, nil
		}
		return parseRequested(older, field, v1alpha1.ReasonInvalidSpec)
	}
	var requested []netip.Addr
	for i, name := range names {
		also, problem := parseRequested(strings.TrimSpace(svc.Annotations[name]), "the annotation "+name, v1alpha1.ReasonInvalidAnnotation)
		switch {
		case problem != nil:
			return nil, problem
		case i == 0:
			requested = also
		case !sameAddresses(requested, also):
			return nil, differ("the annotation "+names[0], "the annotation "+name, "addresses")
		}
	}
	if older == "" {
		return requested, nil
	}
	if a, ok := unicast(older); !ok || !slices.Contains(requested, a) {
		return nil, differ("the annotation "+names[0], field, "addresses")
	}
	return requested, nil
}

// RequestedPool is the pool that a Service asks for, and the annotation that does: ours or one of providers.
func RequestedPool(svc *corev1.Service, providers ...v1alpha1.AnnotationProvider) (pool, annotation string, problem *Problem) {
	for _, name := range asked(svc, v1alpha1.AddressPoolAnnotation, func(r requests) []string { return r.pool }, providers) {
		switch text := svc.Annotations[name]; {
		case annotation == "":
			pool, annotation = text, name
		case strings.TrimSpace(text) != strings.TrimSpace(pool):
			return "", "", differ("the annotation "+annotation, "the annotation "+name, "pools")
		}
	}
	return pool, annotation, nil
}

// RequestedSharing is the annotation of a provider by which a Service wants to share its
// addresses; "": there is none.
func RequestedSharing(svc *corev1.Service, providers ...v1alpha1.AnnotationProvider) string {
	names := asked(svc, noneOfOurs, func(r requests) []string { return r.sharing }, providers)
	if len(names) == 0 {
		return ""
	}
	return names[0]
}

// flavor of a cloud's load balancer that the Service asks for; "": it asks for none, or in vain.
//
// One that cannot be read keeps a new Service from coming: in some clouds a load balancer
// keeps the flavor that it came with. It takes no address away that a client may know.
func (t *translation) flavor() (name string, problem *Problem) {
	svc := t.in.Object
	name = strings.TrimSpace(svc.Annotations[v1alpha1.FlavorAnnotation])
	shown := len(svc.Status.LoadBalancer.Ingress) > 0 || svc.Annotations[v1alpha1.AssignedAddressesAnnotation] != ""
	invalid := &Problem{Reason: v1alpha1.ReasonInvalidAnnotation, Fatal: t.cloud && !shown}
	switch {
	case name == "" || t.cloud && lb.SafeOffer(name):
		return name, nil
	case !t.cloud:
		invalid.Message = fmt.Sprintf("the annotation %s changes nothing: a cloud's load balancers have flavors, and hosts have none", v1alpha1.FlavorAnnotation)
	default:
		invalid.Message = fmt.Sprintf("the annotation %s: %s is not the name of a flavor; want a DNS label, such as big", v1alpha1.FlavorAnnotation, quoted(name))
	}
	return "", invalid
}

// offered are the certificates of a cloud's provider that a Service names, by port. That of port 0
// is for every TCP port.
type offered map[int32]string

func (o offered) of(port corev1.ServicePort) string { return cmp.Or(o[port.Port], o[0]) }

// requestedCertificates reads the annotation: NAME, or PORT=NAME,... One that cannot be read keeps
// the Service from coming, as it does with source ranges: a port is not to be open without the TLS
// that somebody meant for it.
func requestedCertificates(svc *corev1.Service) (offered, *Problem) {
	text := strings.TrimSpace(svc.Annotations[v1alpha1.CertificateAnnotation])
	if text == "" {
		return nil, nil
	}
	invalid := func(format string, args ...any) (offered, *Problem) {
		return nil, &Problem{Reason: v1alpha1.ReasonInvalidAnnotation, Fatal: true,
			Message: fmt.Sprintf("the annotation %s: ", v1alpha1.CertificateAnnotation) + fmt.Sprintf(format, args...)}
	}
	if lb.SafeOffer(text) {
		return offered{0: text}, nil
	}
	out := offered{}
	for one := range strings.SplitSeq(text, ",") {
		number, name, _ := strings.Cut(strings.TrimSpace(one), "=")
		port, err := strconv.ParseUint(number, 10, 16)
		switch at := int32(port); {
		case err != nil || port == 0 || name == "" || !lb.SafeOffer(name):
			return invalid("%s is no certificate; want the name of one for each TCP port, such as shop, or a name for a port, such as 443=shop", quoted(one))
		case out[at] != "":
			return invalid("port %d has two certificates", at)
		case !slices.ContainsFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == at && p.Protocol == corev1.ProtocolTCP }):
			return invalid("the Service has no TCP port %d", at)
		default:
			out[at] = name
		}
	}
	return out, nil
}

func differ(a, b, what string) *Problem {
	message := fmt.Sprintf("%s and %s ask for different %s: remove one of them", a, b, what)
	return &Problem{Reason: v1alpha1.ReasonInvalidAnnotation, Message: message}
}

func sameAddresses(a, b []netip.Addr) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x netip.Addr) bool { return !slices.Contains(b, x) })
}

func parseRequested(text, where, reason string) ([]netip.Addr, *Problem) {
	var out []netip.Addr
	for part := range strings.SplitSeq(text, ",") {
		a, ok := unicast(strings.TrimSpace(part))
		if !ok {
			return nil, &Problem{Reason: reason, Message: fmt.Sprintf("%s: %s is not an address; want at most one of each family, separated by a comma", where, quoted(part))}
		}
		if slices.ContainsFunc(out, func(o netip.Addr) bool { return o.Is4() == a.Is4() }) {
			return nil, &Problem{Reason: reason, Message: where + " names two addresses of one family"}
		}
		out = append(out, a)
	}
	return out, nil
}
