package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// LabelSelector selects by labels. It is that of Kubernetes, held to what can be read.
type LabelSelector struct {
	// matchLabels: each of these labels has this value.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(key, key.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",message="a label's key is a name of at most 63 characters, with the prefix of a DNS name and a slash or without"
	// +kubebuilder:validation:XValidation:rule="self.all(key, key.split('/')[0].size() <= 253)",message="the prefix of a label's key has at most 253 characters"
	MatchLabels map[string]LabelValue `json:"matchLabels,omitempty"`

	// matchExpressions: each of these is true.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	MatchExpressions []LabelSelectorRequirement `json:"matchExpressions,omitempty"`
}

// LabelSelectorRequirement is a condition on one label.
// +kubebuilder:validation:XValidation:rule="(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",message="the operators In and NotIn need values, Exists and DoesNotExist have none"
// +kubebuilder:validation:XValidation:rule="self.key.split('/')[0].size() <= 253",message="the prefix of a label's key has at most 253 characters"
type LabelSelectorRequirement struct {
	// key of the label.
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`
	Key string `json:"key"`

	// operator that relates the label to the values.
	// +kubebuilder:validation:Enum=In;NotIn;Exists;DoesNotExist
	Operator metav1.LabelSelectorOperator `json:"operator"`

	// values, with In and NotIn alone.
	// +optional
	// +kubebuilder:validation:MaxItems=256
	// +listType=atomic
	Values []LabelValue `json:"values,omitempty"`
}

// LabelValue is the value of a label.
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$`
type LabelValue string

// Parse reads the selector. An empty one selects everything.
func (s *LabelSelector) Parse() (labels.Selector, error) {
	var like metav1.LabelSelector
	for key, value := range s.MatchLabels {
		metav1.AddLabelToSelector(&like, key, string(value))
	}
	for _, r := range s.MatchExpressions {
		is := metav1.LabelSelectorRequirement{Key: r.Key, Operator: r.Operator}
		for _, value := range r.Values {
			is.Values = append(is.Values, string(value))
		}
		like.MatchExpressions = append(like.MatchExpressions, is)
	}
	return metav1.LabelSelectorAsSelector(&like)
}
