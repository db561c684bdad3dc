package cli

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/controllers"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/render"
)

func newTemplates() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "templates ENGINE [NAME…]",
		Short: "Print the built-in templates of an engine, to start custom ones from",
		Long: `Print the templates from which the files of an engine are made: all of them, those
that are named, or, if it is one, exactly that. Change one and put it into a
ConfigMap in the controller's namespace, under its name, to which spec.templates of
the Balancer refers: it replaces the built-in one. Those that are not in the
ConfigMap stay built in.`,
		Example: `  external-lb templates nginx
  external-lb templates nginx server.conf.tmpl > server.conf.tmpl
  external-lb templates haproxy --output templates/
  kubectl create configmap edge-templates --from-file server.conf.tmpl --namespace external-lb-system`,
		ValidArgs: engineNames(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("say which engine: %s", strings.Join(engineNames(), ", "))
			}
			chosen, err := chooseTemplates(lb.Engine(args[0]), args[1:])
			if err != nil {
				return err
			}
			if dir != "" {
				return writeTemplates(dir, chosen)
			}
			return printTemplates(cmd.OutOrStdout(), chosen, len(args) == 2)
		},
	}
	cmd.Flags().StringVarP(&dir, "output", "o", "", "directory to write the templates to (default: print them)")
	return cmd
}

func engineNames() []string {
	var names []string
	for _, e := range lb.Engines {
		names = append(names, string(e))
	}
	return names
}

// chooseTemplates of an engine by name; without names, all.
func chooseTemplates(engine lb.Engine, names []string) (map[string]string, error) {
	if !slices.Contains(lb.Engines, engine) {
		return nil, fmt.Errorf("there is no engine %q, only %s", engine, strings.Join(engineNames(), ", "))
	}
	all, err := render.BuiltIn(engine)
	if err != nil || len(names) == 0 {
		return all, err
	}
	chosen := map[string]string{}
	for _, name := range names {
		text, ok := all[name]
		if !ok {
			return nil, fmt.Errorf("%s has no template %q, only %s", engine, name, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
		}
		chosen[name] = text
	}
	return chosen, nil
}

func printTemplates(w io.Writer, all map[string]string, bare bool) error {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		text := all[name]
		if !bare {
			text = fmt.Sprintf("==> %s <==\n%s\n", name, text)
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
	}
	return nil
}

func writeTemplates(dir string, all map[string]string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range all {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// templates that a Balancer refers to, of a ConfigMap in any namespace: that of the
// controller is not known.
func (o *objects) templates(b *v1alpha1.Balancer) (map[string]string, *plan.Problem) {
	if b.Spec.Templates == nil {
		return nil, nil
	}
	name := b.Spec.Templates.ConfigMapRef.Name
	var found []*corev1.ConfigMap
	for _, cm := range o.configMaps {
		if cm.Name == name {
			found = append(found, cm)
		}
	}
	switch len(found) {
	case 0:
		return nil, &plan.Problem{Reason: v1alpha1.ReasonTemplatesNotFound, Message: fmt.Sprintf("there is no ConfigMap %s in the manifests", name)}
	case 1:
		return controllers.Templates(found[0])
	default:
		return nil, &plan.Problem{Reason: v1alpha1.ReasonTemplatesNotFound, Message: fmt.Sprintf("there are ConfigMaps %s in several namespaces: leave only that of the controller's namespace in the manifests", name)}
	}
}
