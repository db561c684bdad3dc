// Package builder makes the Kubernetes objects that tests work on.
//
// A test says what matters to it, and nothing else:
//
//	builder.Service("default", "web").Port(80).Obj()
//
// Each kind has a builder, whose methods change it and return it. Obj is the object as an
// API server has it; Manifest is what one takes to create it.
package builder

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// epoch is when all objects are created that have no Age.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// object is what the builders of all kinds have: T is the kind, B its builder.
type object[T, B any] struct {
	obj  *T
	meta *metav1.ObjectMeta // of obj
	self *B
}

func begin[T, B any](self *B, obj *T, meta *metav1.ObjectMeta, namespace, name string) object[T, B] {
	meta.Namespace, meta.Name, meta.UID = namespace, name, types.UID(name+"-uid")
	meta.ResourceVersion, meta.Generation, meta.CreationTimestamp = "1", 1, metav1.NewTime(epoch)
	return object[T, B]{obj, meta, self}
}

// With changes what no method of a builder does.
func (o *object[T, B]) With(changes ...func(*T)) *B {
	for _, change := range changes {
		change(o.obj)
	}
	return o.self
}

// Label sets a label.
func (o *object[T, B]) Label(key, value string) *B {
	metav1.SetMetaDataLabel(o.meta, key, value)
	return o.self
}

// Annotate sets an annotation.
func (o *object[T, B]) Annotate(key, value string) *B {
	metav1.SetMetaDataAnnotation(o.meta, key, value)
	return o.self
}

// Age makes an object some hours older than those that have no Age.
func (o *object[T, B]) Age(hours int) *B {
	o.meta.CreationTimestamp = metav1.NewTime(epoch.Add(-time.Duration(hours) * time.Hour))
	return o.self
}

// Deleting is for an object that somebody has deleted, and that is still there.
func (o *object[T, B]) Deleting() *B {
	o.meta.DeletionTimestamp = new(metav1.NewTime(epoch))
	return o.self
}

// Obj is the object as an API server has it: its UID is its name with "-uid" behind it,
// its resourceVersion is "1", and its generation 1.
func (o *object[T, B]) Obj() *T { return o.obj }

// Manifest is the object as its author writes it, without what an API server adds to
// the metadata: one takes no object that has a resourceVersion already.
func (o *object[T, B]) Manifest() *T {
	m := o.meta
	m.UID, m.ResourceVersion, m.Generation, m.CreationTimestamp = "", "", 0, metav1.Time{}
	return o.obj
}
