package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/admit"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/render"
	"github.com/external-lb/external-lb/internal/translate"
)

// rendering are the flags of the render command.
type rendering struct {
	files                             []string
	dir, balancer, service, namespace string
	host, templates                   string
}

func newRender() *cobra.Command {
	var r rendering
	cmd := &cobra.Command{
		Use:   "render -f FILE…",
		Short: "Print the exact files of a host, from manifests: no cluster needed",
		Long: `Render what a host of a Balancer would run, from manifests: Balancers, AddressPools,
UpstreamPolicies, Services, Nodes, and where it matters EndpointSlices, Pods, Namespaces
and Secrets with certificates. Other kinds are passed over. It runs the code of the
controller and of the host's end, so it prints what a host makes of a delivery. Where a
manifest leaves nodePorts to the cluster, it assumes some, and says so on stderr.
Of a certificate with its key it prints only the fingerprint. A host whose owner admits
less, or has templates of his own (--templates), makes other files.

What users would be told is printed on stderr. The exit code is 1 if a manifest
cannot be read, or if a Service, a pool, a policy or a template is refused.`,
		Example: `  external-lb render -f balancer.yaml -f services.yaml -f nodes.yaml
  external-lb render -f manifests/ -o out/
  external-lb render -f manifests/ --service default/web
  external-lb render -f manifests/ --host lb2 --templates /etc/external-lb/templates/nginx
  kubectl get balancers,pools,upol,svc,nodes,endpointslices,ns -A -o yaml | external-lb render -f -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(r.files) == 0 {
				return errors.New("say which manifests: -f FILE, a directory, or - for stdin")
			}
			o, err := readManifests(r.files, r.namespace, stdinOf(cmd))
			if err != nil {
				return err
			}
			o.assumeNodePorts()
			return r.run(o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&r.files, "filename", "f", nil, "file or directory of manifests, - for stdin; may be repeated")
	flags.StringVarP(&r.dir, "output", "o", "", "directory to write the files to, without those of an earlier rendering (default: print them)")
	flags.StringVar(&r.balancer, "balancer", "", "the Balancer to render, if there are several")
	flags.StringVar(&r.host, "host", "", "the host to render for (default: the first of the Balancer; they differ only with VRRP)")
	flags.StringVar(&r.templates, "templates", "", "directory of templates that replace built-in ones of the same name")
	flags.StringVar(&r.service, "service", "", "only the file of one Service, as namespace/name or a name in --namespace")
	flags.StringVarP(&r.namespace, "namespace", "n", corev1.NamespaceDefault, "namespace of objects that name none")
	return cmd
}

func (r *rendering) run(o *objects, stdout, stderr io.Writer) error {
	b, err := o.balancer(r.balancer)
	if err != nil {
		return fmt.Errorf("%w (--balancer NAME)", err)
	}
	if b.Spec.Provider != nil {
		return fmt.Errorf("Balancer %s has a provider, which makes load balancers of a cloud and no files", b.Name)
	}
	p, err := o.plan(b)
	if err != nil {
		return err
	}
	wanted, err := r.wanted(p)
	if err != nil {
		return err
	}
	findings := o.findings(p)
	set, err := r.filesOf(wanted, translate.Carriers(b), &findings)
	if err != nil {
		return err
	}
	if service := r.service; service != "" {
		if !strings.Contains(service, "/") {
			service = r.namespace + "/" + service
		}
		if set, err = o.only(service, p, set); err != nil {
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

// wanted is what a host should carry.
func (r *rendering) wanted(p *planned) (*lb.Set, error) {
	if r.host != "" {
		if set := p.Sets[r.host]; set != nil {
			return set, nil
		}
		var names []string
		for _, h := range p.balancer.Spec.Hosts {
			names = append(names, h.Name)
		}
		return nil, fmt.Errorf("Balancer %s has no host %q, only %s", p.balancer.Name, r.host, strings.Join(names, ", "))
	}
	if len(p.balancer.Spec.Hosts) > 0 {
		return p.Sets[p.balancer.Spec.Hosts[0].Name], nil
	}
	return p.Set, nil
}

// filesOf makes the files as a host does whose owner admits everything, and adds what
// it would refuse.
func (r *rendering) filesOf(wanted *lb.Set, carriers engine.Carriers, found *findings) (*fileset.Set, error) {
	parts := map[lb.Key]any{}
	for it := range wanted.All() {
		part, err := lb.Decode(it)
		if err != nil {
			part = err
		}
		parts[it.Key] = part
	}
	admitted := (&admit.Rules{
		Backends: []admit.Backends{{Ports: []admit.PortRange{{First: 1, Last: 65535}}}},
		Pods:     []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)},
		Sources:  found.sources(parts),
	}).Admit(parts, admit.Machine{})
	found.refused(admitted.Refused)
	var files []fileset.File
	add := func(f fileset.File, e *engine.Engine) {
		if e == carriers.Datagrams {
			f.Path = besidePrefix + f.Path
		}
		files = append(files, f)
	}
	last := carriers.Main
	for _, e := range carriers.All() {
		set, err := r.filesBy(e, carriers.Part(e, admitted.Config), e == carriers.Main, found)
		if err != nil {
			return nil, err
		}
		for f := range set.All() {
			add(f, e)
		}
		last = e
	}
	if v := admitted.Config.VRRP; v != nil {
		router, each, err := engines.Table.VRRP.Files(v, admitted.Config.Addresses)
		if err != nil {
			return nil, err
		}
		for _, f := range append(each, router) {
			add(f.File, last)
		}
	}
	return fileset.New(files...)
}

// besidePrefix begins the paths of what carries datagrams beside the engine.
var besidePrefix = engines.Table.Datagrams.Name + "/"

// filesBy makes those of one engine.
func (r *rendering) filesBy(e *engine.Engine, part *lb.Config, main bool, found *findings) (*fileset.Set, error) {
	renderer, err := render.New(e)
	if err != nil {
		return nil, err
	}
	if r.templates != "" && main {
		custom, err := readTemplateFiles(r.templates)
		if err != nil {
			return nil, err
		}
		if renderer, err = renderer.With(custom); err != nil {
			return nil, err
		}
	}
	set, refused, problems, err := renderer.Set(part)
	if err != nil {
		return nil, err
	}
	found.refused(refused)
	for _, problem := range problems {
		*found = append(*found, finding{"Template", v1alpha1.ReasonTemplatesInvalid, problem.Error() + "; made with the built-in one", true})
	}
	return set, nil
}

// refused adds what a host would refuse.
func (f *findings) refused(all []lb.Refusal) {
	for _, refusal := range all {
		*f = append(*f, finding{refusal.Key.Describe(), string(refusal.Reason), refusal.Message, true})
	}
}

// readTemplateFiles reads those of a directory, by name.
func readTemplateFiles(dir string) (map[string]string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.tmpl"))
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("there are no templates (*.tmpl) in %s", dir)
	}
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		all[filepath.Base(path)] = string(text)
	}
	return all, nil
}

// only the fragments of one Service; empty if it is left out, which is a finding.
func (o *objects) only(service string, p *planned, all *fileset.Set) (*fileset.Set, error) {
	for _, svc := range p.Services {
		if name(svc.Object) == service {
			var own []fileset.File
			for f := range all.All() {
				if id, ok := engine.ParsePath(strings.TrimPrefix(f.Path, besidePrefix)); ok && lb.ServiceKey(id) == svc.Key {
					own = append(own, f)
				}
			}
			return fileset.New(own...)
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
		if _, wanted := set.Get(relative); wanted || !engine.Ours(strings.TrimPrefix(relative, besidePrefix)) {
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
