// Package crd proves that a Kubernetes API server takes our kinds. It is a module of
// its own, for it needs the code of API servers: with go.mod that of the newest one
// which we claim, with oldest.mod that of the oldest.
package crd

import (
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"sigs.k8s.io/yaml"
)

// definitions are our kinds, as an API server has them before it looks whether it
// takes them.
func definitions(t *testing.T) map[string]*apiextensions.CustomResourceDefinition {
	t.Helper()
	files, err := filepath.Glob("../../config/crd/bases/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	out := map[string]*apiextensions.CustomResourceDefinition{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var crd v1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(text, &crd); err != nil {
			t.Fatal(file, err)
		}
		v1.SetDefaults_CustomResourceDefinition(&crd)
		v1.SetDefaults_CustomResourceDefinitionSpec(&crd.Spec)
		internal := &apiextensions.CustomResourceDefinition{}
		if err := v1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&crd, internal, nil); err != nil {
			t.Fatal(file, err)
		}
		internal.Status.StoredVersions = []string{crd.Spec.Versions[0].Name}
		out[internal.Name] = internal
	}
	return out
}

func TestKindsInstall(t *testing.T) { install(t) }

// install has our kinds looked at as an API server does before it takes them.
func install(t *testing.T) {
	t.Helper()
	for name, crd := range definitions(t) {
		for _, err := range validation.ValidateCustomResourceDefinition(t.Context(), crd) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
