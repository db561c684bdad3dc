package importer

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"sigs.k8s.io/yaml"
)

// Print the objects as YAML, and before them what has no equal, as comments.
func (r *Result) Print(w io.Writer) error {
	var out strings.Builder
	if len(r.Notes) > 0 {
		out.WriteString("# What is not carried over as it stands:\n")
	}
	for _, n := range r.Notes {
		out.WriteString("# - " + n.String() + "\n")
	}
	for i, obj := range r.Objects {
		text, err := manifest(obj)
		if err != nil {
			return fmt.Errorf("printing a %T: %w", obj, err)
		}
		if i > 0 || len(r.Notes) > 0 {
			out.WriteString("---\n")
		}
		out.Write(text)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// manifest is an object without what nobody writes.
func manifest(obj any) ([]byte, error) {
	data, err := json.Marshal(obj)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	delete(m, "status")
	prune(m)
	return yaml.Marshal(m)
}

// prune leaves out what is empty.
func prune(m map[string]any) {
	for key, value := range m {
		switch v := value.(type) {
		case nil:
			delete(m, key)
		case map[string]any:
			if prune(v); len(v) == 0 {
				delete(m, key)
			}
		case []any:
			for _, item := range v {
				if inner, ok := item.(map[string]any); ok {
					prune(inner)
				}
			}
		}
	}
}
