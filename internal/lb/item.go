package lb

import (
	"crypto/sha256"
	"net/netip"
	"strings"
)

// Key names an Item: its kind, and behind a slash what tells it from others of
// its kind: node/n1, service/default/web/UID, certificate/NAME, address/192.0.2.1, vrrp.
type Key string

// The kinds of Items.
const (
	kindNode        = "node"
	kindService     = "service"
	kindCertificate = "certificate"
	kindAddress     = "address"
	kindVRRP        = "vrrp"
	kindServer      = "apiserver" // no Item: a part of one
	kindPods        = "pods"      // neither
)

// VRRPKey is the Key of a VRRP.
const VRRPKey Key = kindVRRP

// NodeKey is the Key of a Node.
func NodeKey(name string) Key { return kindNode + "/" + Key(name) }

// ServiceKey is the Key of a Service.
func ServiceKey(id ID) Key {
	return Key(kindService + "/" + id.Namespace + "/" + id.Name + "/" + id.UID)
}

// CertificateKey is the Key of a Certificate.
func CertificateKey(name string) Key { return kindCertificate + "/" + Key(name) }

// AddressKey is the Key of an address that hosts bring.
func AddressKey(a netip.Addr) Key { return kindAddress + "/" + Key(a.String()) }

// ServerKey is the Key under which an API server is refused, one of Service.Servers.
func ServerKey(name string) Key { return kindServer + "/" + Key(name) }

// PodsKey is the Key under which some of a Service's pods are refused.
func PodsKey(id ID) Key {
	return Key(kindPods + "/" + id.Namespace + "/" + id.Name + "/" + id.UID)
}

// ServiceID is the ID of the Service that a Key names.
func (k Key) ServiceID() (ID, bool) {
	parts := strings.Split(string(k), "/")
	if len(parts) != 4 || parts[0] != kindService {
		return ID{}, false
	}
	id, err := NewID(parts[1], parts[2], parts[3])
	return id, err == nil
}

// IsCertificate reports whether a Key names a Certificate.
func (k Key) IsCertificate() bool { return k.kind() == kindCertificate }

// IsNode reports whether a Key names a Node.
func (k Key) IsNode() bool { return k.kind() == kindNode }

// IsAddress reports whether a Key names an address that hosts bring.
func (k Key) IsAddress() bool { return k.kind() == kindAddress }

// kind of the Item that a Key names.
func (k Key) kind() string {
	kind, _, _ := strings.Cut(string(k), "/")
	return kind
}

// Describe names an Item for people: Service default/web, node n1.
func (k Key) Describe() string {
	if id, ok := k.ServiceID(); ok {
		if id == ControlPlane {
			return "the control plane"
		}
		return "Service " + id.String()
	}
	kind, name, _ := strings.Cut(string(k), "/")
	if kind == kindPods {
		name = name[:max(0, strings.LastIndexByte(name, '/'))]
		return "pods of Service " + name
	}
	return strings.TrimSpace(kind + " " + name)
}

// Sum is the SHA-256 of an Item's bytes.
type Sum [sha256.Size]byte

// Item is a part of a Config as it is sent. It is not changed once made.
type Item struct {
	Key  Key
	Data []byte
	Sum  Sum // of Data
}

// NewItem makes an Item of bytes that were sent.
func NewItem(key Key, data []byte) Item { return Item{key, data, sha256.Sum256(data)} }

// Digest names the content of a whole Set: 64 lower-case hexadecimal digits.
type Digest string

// Short is for people: the first 12 digits, or that nothing is in the Set.
func (d Digest) Short() string {
	if d == (*tree)(nil).name() {
		return "empty"
	}
	return string(d[:min(12, len(d))])
}

// RefusalReason says why a host refuses something.
type RefusalReason string

// The reasons.
const (
	RefusedUnknown     RefusalReason = "Unknown"     // this version of the host's end does not know a field or a value of it
	RefusedInvalid     RefusalReason = "Invalid"     // it is out of the model's bounds, or refers to what is not there
	RefusedNotAdmitted RefusalReason = "NotAdmitted" // the host's owner does not admit it
	RefusedUnavailable RefusalReason = "Unavailable" // the machine lacks its address, or something else holds its port
	RefusedByEngine    RefusalReason = "Engine"      // the engine cannot do it, or the daemon refuses it
	RefusedPending     RefusalReason = "Pending"     // a provider's cloud is at work on it: it is about to come, or to go. No host says so
	RefusedOtherwise   RefusalReason = "Other"       // the other end is newer, and gives a reason that this one does not know
)

// Refusal is an Item, or one Listener of a Service, that a host leaves out.
type Refusal struct {
	Key        Key
	Listener   Listener // the zero Listener: the whole Item
	Reason     RefusalReason
	Message    string // the daemon's own output, or what was found and what to do
	OlderStays bool   // an older version of the Item stays live, which lacks the Listener, if there is one
}

// OfItem reports whether the whole Item is refused.
func (r Refusal) OfItem() bool { return r.Listener == Listener{} }
