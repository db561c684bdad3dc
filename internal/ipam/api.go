package ipam

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/internal/lb"
)

// Port is what a Service listens on at each of its addresses.
type Port struct {
	Protocol lb.Protocol
	Port     uint16
}

// Request is what one Service asks for and what it has.
type Request struct {
	UID      types.UID
	Name     string // namespace/name, for messages
	Created  time.Time
	Families []corev1.IPFamily // as in spec.ipFamilies, in that order
	// RequireAll: an address of every family or nothing new (RequireDualStack).
	RequireAll bool
	// Requested are the addresses that the user names, at most one per family.
	Requested []netip.Addr
	// Pool is the one that the user names. "": any that assigns automatically.
	Pool            string
	PoolAnnotation  string // that names it
	Ports           []Port
	Labels          labels.Set
	NamespaceLabels labels.Set
	// Recorded are the addresses on record: first of each family the one that is
	// assigned, then those that are being left. It is written before anything is
	// programmed, so it has every address that may be live.
	Recorded []netip.Addr
	// Listeners are those on record as the Service's own: see Assignment.
	Listeners []lb.Listener
	// Published are those on record that users were told. Others are somebody else's
	// writing.
	Published []netip.Addr
	// Shown are the addresses that users were told of a Service that has no record,
	// by us or by another provider.
	Shown     []netip.Addr
	ShownByUs bool
	// Withdrawing: holds what is published and recorded, gets nothing new.
	Withdrawing bool
	// Apart: another Balancer's hosts may have its addresses. Nobody comes to
	// share one; who shares it already stays.
	Apart bool
}

// Problem is why somebody does not have what they asked for.
type Problem struct {
	Reason  string // one of v1alpha1.Reason*
	Message string // says what to do, and names the holder where there is one
}

// Conflict is a listener of a Service that another Service holds.
type Conflict struct {
	Listener lb.Listener
	Holder   string // namespace/name
}

// Assignment is what one Service gets.
type Assignment struct {
	// Addresses in the order of Request.Families, at most one of each.
	Addresses []netip.Addr
	// Leaving are the other addresses that the Service had. Nobody gets them as
	// long as the next Request says that they are published or recorded: the
	// record needs Addresses and, behind them, those of Leaving that are still
	// published or may still be live on a host.
	Leaving []netip.Addr
	// Conflicts are the listeners of Addresses that are not the Service's: it
	// must not be programmed there. Sorted by listener.
	Conflicts []Conflict
	// Withheld are the listeners of Leaving that are not the Service's.
	Withheld []Conflict
	// Listeners of Addresses and Leaving that are the Service's own, where others may
	// share them. They belong on record: from then on, nobody else gets them as long as
	// the Service has these ports. Sorted.
	Listeners []lb.Listener
	// Problem is set where anything is missing. Addresses may be set too: a
	// family is missing, a move was refused, a listener is another Service's.
	Problem *Problem
	// Notice tells, with no Problem, that the Service keeps an address which its
	// pools would not give it any more. "": nothing to tell.
	Notice string
}

// Usage counts the addresses of one pool.
type Usage struct {
	IPv4, IPv6 FamilyUsage
}

// FamilyUsage counts the addresses of one family in one pool.
type FamilyUsage struct {
	Capacity int64 // at most 2^53
	Assigned int64 // addresses that at least one Service holds
}
