package cli

import (
	"bytes"
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

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/yaml"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/controllers"
)

// reading is the reading of manifests into objects. It goes on after an error,
// so that all are told at once.
type reading struct {
	objects         *objects
	namespace       string // of objects that name none
	strict, lenient runtime.Decoder
	seen            map[string]string // where, by kind, namespace and name
	errs            []error
}

// readManifests reads files, directories and, for "-", stdin.
func readManifests(paths []string, namespace string, stdin io.Reader) (*objects, error) {
	scheme := controllers.Scheme()
	r := &reading{
		objects: newObjects(), namespace: namespace, seen: map[string]string{},
		strict:  serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer(),
		lenient: serializer.NewCodecFactory(scheme).UniversalDeserializer(),
	}
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
	for _, d := range documents(data) {
		r.document(name, d)
	}
}

// document is one of several in a file.
type document struct {
	line int // of the file, from 1
	data []byte
}

// documents takes a file apart at its lines of three dashes. JSON values may
// also follow each other.
func documents(data []byte) []document {
	var out []document
	begin, beginLine, line := 0, 1, 0
	end := func(at int) {
		out = append(out, values(document{beginLine, data[begin:at]})...)
	}
	for at := 0; at < len(data); {
		line++
		next := len(data)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
			next = at + i + 1
		}
		if separator(data[at:next]) {
			end(at)
			begin, beginLine = next, line+1
		}
		at = next
	}
	end(len(data))
	return out
}

func separator(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("---"))
	return ok && (len(bytes.TrimSpace(rest)) == 0 || bytes.HasPrefix(bytes.TrimLeft(rest, " \t"), []byte("#")))
}

// values of a document: itself, or each of several JSON values.
func values(d document) []document {
	trimmed := trimStart(d.data)
	d.line += bytes.Count(d.data[:len(d.data)-len(trimmed)], []byte("\n"))
	d.data = trimmed
	if !bytes.HasPrefix(trimmed, []byte("{")) {
		return []document{d}
	}
	var out []document
	decoder := json.NewDecoder(bytes.NewReader(trimmed))
	for {
		var value json.RawMessage
		err := decoder.Decode(&value)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			return []document{d} // YAML that looks like JSON
		}
		before := trimmed[:decoder.InputOffset()-int64(len(value))]
		out = append(out, document{d.line + bytes.Count(before, []byte("\n")), value})
	}
}

// trimStart leaves out blank lines and comments before a document.
func trimStart(data []byte) []byte {
	for {
		data = bytes.TrimLeft(data, " \t\r\n")
		if !bytes.HasPrefix(data, []byte("#")) {
			return data
		}
		_, data, _ = bytes.Cut(data, []byte("\n"))
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
func (r *reading) document(file string, d document) {
	data, err := yaml.YAMLToJSONStrict(d.data)
	switch {
	case err != nil:
		r.fail(fmt.Errorf("%s:%d: %s", file, d.line, d.explain(err)))
	case string(data) != "null": // more than comments
		r.value(fmt.Sprintf("%s:%d", file, d.line), data)
	}
}

var lineNumber = regexp.MustCompile(`line (\d+)`)

// explain is an error of the parser, in lines of the file.
func (d document) explain(err error) string {
	text := strings.NewReplacer("yaml: ", "", "unmarshal errors:", "", "error converting YAML to JSON: ", "", "\n  ", "; ").Replace(err.Error())
	text = lineNumber.ReplaceAllStringFunc(text, func(s string) string {
		n, _ := strconv.Atoi(lineNumber.FindStringSubmatch(s)[1])
		return fmt.Sprintf("line %d", d.line+n-1)
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
	decoder := r.strict
	if h.Metadata.ResourceVersion != "" {
		decoder = r.lenient // an API server took it, which may be newer than this
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
