package cli

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/controllers"
)

// manifests are the objects of files, as the API server would hold them.
type manifests struct {
	balancers  []*v1alpha1.Balancer
	pools      []v1alpha1.AddressPool
	policies   []*v1alpha1.UpstreamPolicy
	services   []*corev1.Service
	nodes      []*corev1.Node
	slices     map[types.NamespacedName][]*discoveryv1.EndpointSlice
	namespaces map[string]labels.Set
	ignored    []string // kinds that do not matter here
}

// readManifests reads files, directories and, for "-", stdin.
func readManifests(paths []string, stdin io.Reader) (*manifests, error) {
	m := &manifests{slices: map[types.NamespacedName][]*discoveryv1.EndpointSlice{}, namespaces: map[string]labels.Set{}}
	decoder := serializer.NewCodecFactory(controllers.Scheme(), serializer.EnableStrict).UniversalDeserializer()
	for _, path := range paths {
		if path == "-" {
			if err := m.read(decoder, "stdin", stdin); err != nil {
				return nil, err
			}
			continue
		}
		files, err := manifestFiles(path)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			f, err := os.Open(file)
			if err != nil {
				return nil, err
			}
			err = m.read(decoder, file, f)
			if err := errors.Join(err, f.Close()); err != nil {
				return nil, err
			}
		}
	}
	return m, nil
}

// manifestFiles are a file itself, or those of a directory.
func manifestFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return []string{path}, err
	}
	var files []string
	for _, pattern := range []string{"*.yaml", "*.yml", "*.json"} {
		found, err := filepath.Glob(filepath.Join(path, pattern))
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	slices.Sort(files)
	return files, nil
}

func (m *manifests) read(decoder runtime.Decoder, name string, r io.Reader) error {
	documents := utilyaml.NewYAMLReader(bufio.NewReader(r))
	for i := 1; ; i++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := m.decode(decoder, document); err != nil {
			return fmt.Errorf("%s, document %d: %w", name, i, err)
		}
	}
}

func (m *manifests) decode(decoder runtime.Decoder, document []byte) error {
	var head struct {
		Kind  string           `json:"kind"`
		Items []map[string]any `json:"items"`
	}
	if err := yaml.Unmarshal(document, &head); err != nil {
		return err
	}
	if head.Kind == "" {
		return nil // nothing but comments
	}
	if head.Kind == "List" {
		for _, item := range head.Items {
			data, err := yaml.Marshal(item)
			if err != nil {
				return err
			}
			if err := m.decode(decoder, data); err != nil {
				return err
			}
		}
		return nil
	}
	obj, _, err := decoder.Decode(document, nil, nil)
	if runtime.IsNotRegisteredError(err) {
		m.ignored = append(m.ignored, head.Kind)
		return nil
	}
	if err != nil {
		return err
	}
	m.add(obj, head.Kind)
	return nil
}

// add fills in what the API server would have.
func (m *manifests) add(obj runtime.Object, kind string) {
	switch o := obj.(type) {
	case *v1alpha1.Balancer:
		if o.Spec.Engine == "" {
			o.Spec.Engine = v1alpha1.EngineNginx
		}
		m.balancers = append(m.balancers, o)
	case *v1alpha1.AddressPool:
		m.pools = append(m.pools, *o)
	case *v1alpha1.UpstreamPolicy:
		setDefault(&o.Namespace, corev1.NamespaceDefault)
		m.policies = append(m.policies, o)
	case *corev1.Service:
		m.addService(o)
	case *corev1.Node:
		m.nodes = append(m.nodes, o)
	case *discoveryv1.EndpointSlice:
		setDefault(&o.Namespace, corev1.NamespaceDefault)
		key := types.NamespacedName{Namespace: o.Namespace, Name: o.Labels[discoveryv1.LabelServiceName]}
		m.slices[key] = append(m.slices[key], o)
	case *corev1.Namespace:
		m.namespaces[o.Name] = o.Labels
	default:
		m.ignored = append(m.ignored, kind)
	}
}

func (m *manifests) addService(o *corev1.Service) {
	setDefault(&o.Namespace, corev1.NamespaceDefault)
	if o.UID == "" {
		sum := sha256.Sum256([]byte(o.Namespace + "/" + o.Name))
		o.UID = types.UID(hex.EncodeToString(sum[:8]))
	}
	if o.Spec.Type == "" {
		o.Spec.Type = corev1.ServiceTypeClusterIP
	}
	if len(o.Spec.IPFamilies) == 0 {
		o.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	for i := range o.Spec.Ports {
		if o.Spec.Ports[i].Protocol == "" {
			o.Spec.Ports[i].Protocol = corev1.ProtocolTCP
		}
	}
	m.services = append(m.services, o)
}

func setDefault(s *string, value string) {
	if *s == "" {
		*s = value
	}
}
