package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/yaml"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/controllers"
	"github.com/external-lb/external-lb/internal/cli/documents"
)

// reading is the reading of manifests into objects. It goes on after an error,
// so that all are told at once.
type reading struct {
	objects   *objects
	namespace string            // of objects that name none
	seen      map[string]string // where, by kind, namespace and name
	errs      []error
}

// decoders of every kind that there is, strict and lenient: dear to make.
var decoders = sync.OnceValues(func() (strict, lenient runtime.Decoder) {
	scheme := controllers.Scheme()
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer(),
		serializer.NewCodecFactory(scheme).UniversalDeserializer()
})

// readManifests reads files, directories and, for "-", stdin.
func readManifests(paths []string, namespace string, stdin io.Reader) (*objects, error) {
	r := &reading{objects: newObjects(), namespace: namespace, seen: map[string]string{}}
	for _, path := range paths {
		if path == "-" {
			data, err := io.ReadAll(stdin)
			r.file("stdin", data, err)
			continue
		}
		files, err := manifestFiles(path)
		r.fail(err)
		for _, file := range files {
			data, err := os.ReadFile(file)
			r.file(file, data, err)
		}
	}
	complete(r.objects)
	return r.objects, errors.Join(r.errs...)
}

// manifestFiles are a file itself, or those of a directory.
func manifestFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) && !e.IsDir() {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: there are no .yaml, .yml or .json files in this directory", path)
	}
	return files, nil
}

func (r *reading) fail(err error) {
	if err != nil {
		r.errs = append(r.errs, err)
	}
}

func (r *reading) file(name string, data []byte, err error) {
	if err != nil {
		r.fail(fmt.Errorf("%s: %w", name, err))
		return
	}
	for _, d := range documents.Split(data) {
		r.document(name, d)
	}
}

// head is what is common to all objects, and the items of a List.
type head struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        metav1.ObjectMeta `json:"metadata"`
	Items           []json.RawMessage `json:"items"`
}

func (h head) String() string {
	if h.Metadata.Namespace == "" {
		return h.Kind + " " + h.Metadata.Name
	}
	return h.Kind + " " + h.Metadata.Namespace + "/" + h.Metadata.Name
}

// document reads one object, or a List of some.
func (r *reading) document(file string, d documents.Document) {
	data, err := yaml.YAMLToJSONStrict(d.Data)
	switch {
	case err != nil:
		r.fail(fmt.Errorf("%s:%d: %s", file, d.Line, parseError(d, err)))
	case string(data) != "null": // more than comments
		r.value(fmt.Sprintf("%s:%d", file, d.Line), data)
	}
}

var lineNumber = regexp.MustCompile(`line (\d+)`)

// parseError is an error of the parser, in lines of the file.
func parseError(d documents.Document, err error) string {
	text := strings.NewReplacer("yaml: ", "", "unmarshal errors:", "", "error converting YAML to JSON: ", "", "\n  ", "; ").Replace(err.Error())
	text = lineNumber.ReplaceAllStringFunc(text, func(s string) string {
		n, _ := strconv.Atoi(lineNumber.FindStringSubmatch(s)[1])
		return fmt.Sprintf("line %d", d.Line+n-1)
	})
	return strings.TrimPrefix(text, "; ")
}

// value reads the JSON of a document.
func (r *reading) value(where string, data []byte) {
	var h head
	err := json.Unmarshal(data, &h)
	shape, _ := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case shape != nil && shape.Field != "":
		r.fail(fmt.Errorf("%s: %s is a %s where a %s is wanted: does it need quotes?", where, shape.Field, shape.Value, shape.Type))
	case err != nil || h.Kind == "" && h.APIVersion == "":
		r.fail(fmt.Errorf("%s: this is no Kubernetes object, which has apiVersion, kind and metadata", where))
	case h.Kind == "List" && h.APIVersion == "v1":
		for _, item := range h.Items {
			r.value(where, item)
		}
	default:
		r.object(where, h, data)
	}
}

func (r *reading) object(where string, h head, data []byte) {
	gvk := schema.FromAPIVersionAndKind(h.APIVersion, h.Kind)
	decoder, lenient := decoders()
	if h.Metadata.ResourceVersion != "" {
		decoder = lenient // an API server took it, which may be newer than this
	}
	obj, _, err := decoder.Decode(data, nil, nil)
	if runtime.IsNotRegisteredError(err) {
		if gvk.Group == v1alpha1.GroupVersion.Group {
			r.fail(fmt.Errorf("%s: %s: there is no kind %s in %s", where, h, h.Kind, h.APIVersion))
		}
		return // somebody else's kind
	}
	if err != nil {
		problem := strings.TrimPrefix(err.Error(), "strict decoding error: ")
		r.fail(fmt.Errorf("%s: %s: %s", where, h, problem))
		return
	}
	if meta.IsListType(obj) {
		r.fail(meta.EachListItem(obj, func(item runtime.Object) error { r.add(where, h.Kind, item); return nil }))
		return
	}
	r.add(where, h.Kind, obj)
}

// add takes an object as the API server would hold it, unless it is a second of
// its name.
func (r *reading) add(where, kind string, obj runtime.Object) {
	accessor, err := meta.Accessor(obj)
	if err != nil {
		r.fail(fmt.Errorf("%s: %w", where, err))
		return
	}
	if !setDefaults(obj, r.namespace) {
		return
	}
	name := strings.TrimPrefix(accessor.GetNamespace()+"/"+accessor.GetName(), "/")
	if accessor.GetName() == "" {
		r.fail(fmt.Errorf("%s: %s: metadata.name is missing", where, kind))
		return
	}
	id := fmt.Sprintf("%T %s", obj, name)
	if first, twice := r.seen[id]; twice {
		r.fail(fmt.Errorf("%s: %s %s is also at %s", where, kind, name, first))
		return
	}
	r.seen[id] = where
	r.objects.add(obj)
}
