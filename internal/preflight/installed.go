package preflight

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/explain"
)

// Kubernetes that the kinds install on, and the newest that changes are tested with.
const (
	oldestKubernetes = "1.30"
	newestKubernetes = "1.37"
)

func (c *checks) kubernetes() {
	v, err := version.ParseGeneric(c.Kubernetes)
	switch {
	case err != nil:
		c.warn("kubernetes", fmt.Sprintf("its version is %.40q, which is none", c.Kubernetes), "it should be "+oldestKubernetes+" or later")
	case v.LessThan(version.MustParseGeneric(oldestKubernetes)):
		c.fail("kubernetes", c.Kubernetes+" is too old", "update it to "+oldestKubernetes+" or later")
	case v.Minor() > version.MustParseGeneric(newestKubernetes).Minor():
		c.warn("kubernetes", c.Kubernetes+" is newer than "+newestKubernetes+", the newest that is tested", "look for a newer external-lb")
	default:
		c.ok("kubernetes", "%s", c.Kubernetes)
	}
}

// Kinds are ours, by their plural.
var Kinds = map[string]any{
	explain.Balancers: v1alpha1.Balancer{}, explain.Pools: v1alpha1.AddressPool{}, explain.Policies: v1alpha1.UpstreamPolicy{},
}

// Definitions is what an API server calls the definitions of kinds.
const Definitions = "customresourcedefinitions"

const apply = "kubectl apply -k config/default, or of install.yaml, of the manager's version"

// kinds reports whether ours are installed.
func (c *checks) kinds() bool {
	if !slices.Contains(c.Groups, v1alpha1.GroupVersion.Group) {
		c.fail("kinds", "external-lb is not installed in this cluster", apply)
		return false
	}
	if c.unread(Definitions) {
		c.skip("kinds", "they are installed; of which version is not known: "+c.Unread[Definitions], more)
		return true
	}
	fine := true
	for _, plural := range []string{explain.Balancers, explain.Pools, explain.Policies} {
		schema := c.Kinds[plural]
		if schema == nil {
			c.fail("kinds", fmt.Sprintf("there is no %s.%s", plural, v1alpha1.GroupVersion), apply)
			return false
		}
		lacks, more := differences(reflect.TypeOf(Kinds[plural]), schema, "")
		switch {
		case len(lacks) > 0:
			fine = false
			c.fail("kinds", fmt.Sprintf("%s are older than this program: they lack %s", plural, few(lacks)), apply)
		case len(more) > 0:
			fine = false
			c.warn("kinds", fmt.Sprintf("%s are newer than this program: they have %s", plural, few(more)), "use the program of the manager's version")
		}
	}
	if fine {
		c.ok("kinds", "they are of this version")
	}
	return true
}

// differences are the fields that a schema lacks of a type, and those that it has more.
func differences(of reflect.Type, schema map[string]any, at string) (lacks, more []string) {
	for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
		if of.Kind() == reflect.Slice {
			schema, _ = schema["items"].(map[string]any)
		}
		of = of.Elem()
	}
	properties, there := schema["properties"].(map[string]any)
	if of.Kind() != reflect.Struct || !there {
		return nil, nil
	}
	known := map[string]bool{}
	for _, field := range fieldsOf(of) {
		known[field.name] = true
		below, there := properties[field.name].(map[string]any)
		if !there {
			lacks = append(lacks, at+field.name)
			continue
		}
		if field.of == reflect.TypeFor[metav1.ObjectMeta]() {
			continue // its schema is the API server's
		}
		l, m := differences(field.of, below, at+field.name+".")
		lacks, more = append(lacks, l...), append(more, m...)
	}
	for name := range properties {
		if !known[name] {
			more = append(more, at+name)
		}
	}
	slices.Sort(lacks)
	slices.Sort(more)
	return lacks, more
}

type field struct {
	name string
	of   reflect.Type
}

// fieldsOf a type as JSON has them.
func fieldsOf(of reflect.Type) (out []field) {
	for f := range of.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			out = append(out, fieldsOf(f.Type)...)
		case name != "" && name != "-":
			out = append(out, field{name, f.Type})
		}
	}
	return out
}

func few(list []string) string {
	const most = 3
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}
