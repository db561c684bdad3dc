package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/render"
)

// rendering are the flags of the render command.
type rendering struct {
	files                             []string
	dir, balancer, service, namespace string
}

func newRender() *cobra.Command {
	var r rendering
	cmd := &cobra.Command{
		Use:   "render -f FILE…",
		Short: "Manifests in, the exact files of the hosts out: no cluster needed",
		Long: `Render what the hosts of a Balancer would run, from manifests: Balancers,
AddressPools, UpstreamPolicies, Services with nodePorts, Nodes, the ConfigMap of
custom templates, and where it matters EndpointSlices, Namespaces and Secrets with
certificates. Other kinds are passed over. It is the code of the controller: what
it prints is what would be delivered, but for certificates with their keys. Of
those it says which they are.

What users would be told is printed on stderr. The exit code is 1 if a manifest
cannot be read, or if a Service, a pool, a policy or the templates are refused.`,
		Example: `  external-lb render -f balancer.yaml -f services.yaml -f nodes.yaml
  external-lb render -f manifests/ -o out/
  external-lb render -f manifests/ --service default/web
  kubectl get balancers,pools,upol,svc,nodes,endpointslices,ns -A -o yaml | external-lb render -f -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(r.files) == 0 {
				return errors.New("say which manifests: -f FILE, a directory, or - for stdin")
			}
			o, err := readManifests(r.files, r.namespace, cmd.InOrStdin())
			if err != nil {
				return err
			}
			return r.run(o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&r.files, "filename", "f", nil, "file or directory of manifests, - for stdin; may be repeated")
	flags.StringVarP(&r.dir, "output", "o", "", "directory to write the files to, without those of an earlier rendering (default: print them)")
	flags.StringVar(&r.balancer, "balancer", "", "the Balancer to render, if there are several")
	flags.StringVar(&r.service, "service", "", "only the file of one Service, as namespace/name or a name in --namespace")
	flags.StringVarP(&r.namespace, "namespace", "n", corev1.NamespaceDefault, "namespace of objects that name none")
	return cmd
}

func (r *rendering) run(o *objects, stdout, stderr io.Writer) error {
	b, err := o.balancer(r.balancer)
	if err != nil {
		return fmt.Errorf("%w (--balancer NAME)", err)
	}
	templates, problem := o.templates(b)
	p, err := o.plan(b, templates)
	if err != nil {
		return err
	}
	if problem != nil {
		p.Templates = problem
	}
	set, findings := p.Set, o.findings(p)
	if service := r.service; service != "" {
		if !strings.Contains(service, "/") {
			service = r.namespace + "/" + service
		}
		if set, err = o.only(service, p); err != nil {
			return err
		}
		findings = findings.about("Service " + service)
	}
	if r.dir == "" {
		err = printFiles(stdout, set)
	} else {
		err = writeFiles(r.dir, set, r.service == "")
	}
	if err != nil {
		return err
	}
	return findings.print(stderr)
}

// only the fragment of one Service; empty if it is left out, which is a finding.
func (o *objects) only(service string, p *planned) (*fileset.Set, error) {
	for _, svc := range p.Services {
		if name(svc.Object) == service {
			if file, ok := p.Set.Get(svc.Path); ok {
				return fileset.New(file)
			}
			return fileset.New()
		}
	}
	for _, svc := range o.services {
		if name(svc) == service {
			return nil, fmt.Errorf("Balancer %s does not serve the Service %s: %s", p.balancer.Name, service, whyNot(p.balancer, svc))
		}
	}
	return nil, fmt.Errorf("there is no Service %s in the manifests", service)
}

func printFiles(w io.Writer, set *fileset.Set) error {
	for f := range set.All() {
		if _, err := fmt.Fprintf(w, "==> %s <==\n%s\n", f.Path, shown(f)); err != nil {
			return err
		}
	}
	return nil
}

// shown is what a file looks like to people: a private one is only identified.
func shown(f fileset.File) []byte {
	if !f.Private {
		return f.Data
	}
	text := "# Not shown: a certificate and its key."
	if block, _ := pem.Decode(f.Data); block != nil && block.Type == "CERTIFICATE" {
		sum := sha256.Sum256(block.Bytes)
		text += " Its SHA-256 fingerprint is " + strings.ToUpper(hex.EncodeToString(sum[:])) + "."
	}
	return []byte(text + "\n")
}

// writeFiles below a directory. If they are all that there should be, the
// Services' files that an earlier rendering left there go.
func writeFiles(dir string, set *fileset.Set, all bool) error {
	for f := range set.All() {
		path := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, shown(f), 0o644); err != nil {
			return err
		}
	}
	if !all {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		relative = filepath.ToSlash(relative)
		if _, wanted := set.Get(relative); wanted || !render.Ours(relative) {
			return nil
		}
		return os.Remove(path)
	})
}

func name(svc *corev1.Service) string { return svc.Namespace + "/" + svc.Name }

// whyNot says why a Balancer does not serve a Service.
func whyNot(b *v1alpha1.Balancer, svc *corev1.Service) string {
	switch svc.Spec.Type {
	case corev1.ServiceTypeLoadBalancer:
		if svc.Spec.LoadBalancerClass == nil {
			return "it names no loadBalancerClass, and this Balancer is not the default"
		}
		return fmt.Sprintf("its loadBalancerClass is %s; this Balancer serves %s", *svc.Spec.LoadBalancerClass, plan.Class(b))
	case corev1.ServiceTypeNodePort:
		return fmt.Sprintf("it is of type NodePort and lacks the annotation %s: %s", v1alpha1.BalancerAnnotation, b.Name)
	default:
		return fmt.Sprintf("it is of type %s, not LoadBalancer", svc.Spec.Type)
	}
}
