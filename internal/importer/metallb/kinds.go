// Package metallb turns the objects of MetalLB into ours. It is pure.
package metallb

import (
	"bytes"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/internal/importer"
)

// Object of MetalLB, as JSON.
type Object struct {
	Place importer.Place
	Data  []byte
}

// Group of MetalLB's kinds.
const Group = "metallb.io"

// Kinds that are read. They are all in version v1beta1; of those with a newer version, the API
// server gives the older one, too.
var Kinds = []string{"IPAddressPool", "L2Advertisement", "BGPAdvertisement", "BGPPeer", "BFDProfile", "Community"}

// allocation says who gets addresses of a pool.
type allocation struct {
	Priority           int                    `json:"priority"`
	Namespaces         []string               `json:"namespaces"`
	NamespaceSelectors []metav1.LabelSelector `json:"namespaceSelectors"`
	ServiceSelectors   []metav1.LabelSelector `json:"serviceSelectors"`
}

// pinned: only some get addresses of the pool, and they get them before those of others.
func (a *allocation) pinned() bool {
	return a != nil && len(a.Namespaces)+len(a.NamespaceSelectors)+len(a.ServiceSelectors) > 0
}

// object has the fields of every kind.
type object struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        metav1.ObjectMeta `json:"metadata"`
	Spec            struct {
		// IPAddressPool
		Addresses         []string    `json:"addresses"`
		AutoAssign        *bool       `json:"autoAssign"`
		AvoidBuggyIPs     bool        `json:"avoidBuggyIPs"`
		ServiceAllocation *allocation `json:"serviceAllocation"`
		// L2Advertisement, BGPAdvertisement
		IPAddressPools         []string               `json:"ipAddressPools"`
		IPAddressPoolSelectors []metav1.LabelSelector `json:"ipAddressPoolSelectors"`
		NodeSelectors          []metav1.LabelSelector `json:"nodeSelectors"`
		ServiceSelectors       []metav1.LabelSelector `json:"serviceSelectors"`
		Interfaces             []string               `json:"interfaces"`
		AggregationLength      *int                   `json:"aggregationLength"`
		AggregationLengthV6    *int                   `json:"aggregationLengthV6"`
		LocalPref              int64                  `json:"localPref"`
		Communities            json.RawMessage        `json:"communities"`
		Peers                  []string               `json:"peers"`
		// BGPPeer
		PeerAddress string `json:"peerAddress"`
		PeerASN     int64  `json:"peerASN"`
		MyASN       int64  `json:"myASN"`
	} `json:"spec"`

	place   importer.Place
	unknown string // a field that is not here
}

func (o *object) name() string { return o.Kind + " " + o.Metadata.Name }

// parse an object. What is not known of its spec is told.
func parse(from Object) (*object, error) {
	out := &object{place: from.Place}
	if err := json.Unmarshal(from.Data, out); err != nil {
		return nil, fmt.Errorf("%s: %w", from.Place, err)
	}
	var spec struct {
		Spec json.RawMessage `json:"spec"`
	}
	if err := json.Unmarshal(from.Data, &spec); err != nil {
		return nil, fmt.Errorf("%s: %w", from.Place, err)
	}
	if out.Kind == "BGPPeer" || out.Kind == "BFDProfile" || out.Kind == "Community" || len(spec.Spec) == 0 {
		return out, nil
	}
	strict := json.NewDecoder(bytes.NewReader(spec.Spec))
	strict.DisallowUnknownFields()
	probe := out.Spec
	if err := strict.Decode(&probe); err != nil {
		out.unknown = err.Error()
	}
	return out, nil
}
