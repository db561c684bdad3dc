package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/importer"
	"github.com/external-lb/external-lb/internal/importer/sources"
)

// importing are the flags of the import commands.
type importing struct {
	server            apiServer
	manifests         []string
	namespace, secret string
	balancer, engine  string
	hosts, addresses  []string
	iface             string
	router            int32
}

func newImport() *cobra.Command {
	cmd := &cobra.Command{
		SuggestionsMinimumDistance: 2,

		Use:   "import",
		Short: "Print the manifests that carry on what you have: a configuration that is kept by hand, or another provider",
		Long: `Read what carries Services today, and print the manifests with which external-lb does. It
changes nothing. What has no equal is printed as comments and on stderr, by file and
line, with what to do about it.`,
		Args: noSuchCommand,
		RunE: showHelp,
	}
	for _, s := range sources.Table {
		cmd.AddCommand(newImportFiles(s))
	}
	cmd.AddCommand(newImportMetalLB())
	cmd.Example = "  " + strings.Join(examples(), "\n  ") + "\n  external-lb import metallb --host lb1=192.0.2.5"
	return cmd
}

func examples() (out []string) {
	for _, s := range sources.Table {
		out = append(out, s.Example)
	}
	return out
}

func newImportFiles(s importer.Source) *cobra.Command {
	var i importing
	cmd := &cobra.Command{
		Use:   s.Name + " FILE…",
		Short: "Print the manifests that carry on a configuration of " + s.Name + " whose servers are NodePorts",
		Long: `Read ` + s.Reads + `,
find the Services whose nodePorts it sends to, in the cluster of the kubeconfig or in
--manifests, and print what carries them on: the Balancer, AddressPools with the
addresses that are listened on, UpstreamPolicies with the settings, and the Services.

A Service of type NodePort whose ports are the ones that are listened on becomes one of
type LoadBalancer: only what changes of it is printed, for kubectl apply --server-side,
and its nodePorts stay. Where ports differ, a new Service for the same pods is printed,
and the old one stays as it is. A setting that the file does not have is external-lb's
own. The exit code is 1 if a file cannot be read.`,
		Example: "  " + s.Example + "\n  " + s.Example + " --manifests services.yaml --balancer edge > edge.yaml",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return i.files(cmd, s, args)
		},
	}
	i.flags(cmd, string(s.Engine))
	flags := cmd.Flags()
	flags.StringArrayVar(&i.manifests, "manifests", nil, "file or directory with the manifests of Services and, if you like, Nodes, "+
		"in place of a cluster; may be repeated")
	flags.StringArrayVar(&i.addresses, "address", nil, "address of what listens on every address of the machine, one of each family")
	return cmd
}

// flags that every source has.
func (i *importing) flags(cmd *cobra.Command, engine string) {
	i.server.flags(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&i.namespace, "namespace", "n", corev1.NamespaceDefault, "namespace of manifests that name none")
	flags.StringVar(&i.balancer, "balancer", "edge", "name of the Balancer")
	flags.StringVar(&i.engine, "engine", engine, "engine of the Balancer: "+strings.Join(engines.Table.Names(), ", "))
	flags.StringArrayVar(&i.hosts, "host", nil, "host of the Balancer, as NAME=ADDRESS; may be repeated (default: no Balancer is printed)")
	flags.StringVar(&i.secret, "secret", "edge-ssh", "Secret with the key of the hosts")
	flags.StringVar(&i.iface, "interface", "", "interface of the hosts on which addresses move between them (mode VRRP); with --router-id")
	flags.Int32Var(&i.router, "router-id", 0, "virtual router ID of the hosts, from 1 to 255")
}

func (i *importing) files(cmd *cobra.Command, s importer.Source, paths []string) error {
	options, err := i.options()
	if err != nil {
		return err
	}
	files, err := readSources(paths, stdinOf(cmd))
	if err != nil {
		return err
	}
	configuration, err := s.Parse(files, includes(filepath.Dir(paths[0])))
	if err != nil {
		return err
	}
	cluster, err := i.cluster(cmd.Context())
	if err != nil {
		return err
	}
	return printImported(importer.Make(configuration, *cluster, *options), cmd.OutOrStdout(), cmd.ErrOrStderr())
}

func printImported(result *importer.Result, stdout, stderr io.Writer) error {
	if err := result.Print(stdout); err != nil {
		return err
	}
	for _, n := range result.Notes {
		fmt.Fprintln(stderr, n)
	}
	return nil
}

func (i *importing) options() (*importer.Options, error) {
	if engines.Table.Find(i.engine) == nil {
		return nil, fmt.Errorf("--engine: there is no engine %q, only %s", i.engine, strings.Join(engines.Table.Names(), ", "))
	}
	out := &importer.Options{Balancer: i.balancer, Engine: v1alpha1.Engine(i.engine)}
	for _, text := range i.hosts {
		name, address, ok := strings.Cut(text, "=")
		if !ok || name == "" || address == "" {
			return nil, fmt.Errorf("--host: %q is not NAME=ADDRESS", text)
		}
		out.Hosts = append(out.Hosts, v1alpha1.Host{Name: name, Address: address, SecretRef: &corev1.LocalObjectReference{Name: i.secret}})
	}
	for _, text := range i.addresses {
		a, err := netip.ParseAddr(text)
		if err != nil || !a.IsGlobalUnicast() {
			return nil, fmt.Errorf("--address: %q is not an address", text)
		}
		if slices.ContainsFunc(out.Addresses, func(o netip.Addr) bool { return o.Is4() == a.Unmap().Is4() }) {
			return nil, errors.New("--address: a Service has one address of each family")
		}
		out.Addresses = append(out.Addresses, a.Unmap())
	}
	switch {
	case (i.iface == "") != (i.router == 0) || i.router < 0 || i.router > 255:
		return nil, errors.New("--interface and --router-id go together, and the ID is between 1 and 255")
	case i.iface != "":
		out.VRRP = &v1alpha1.VRRPSettings{Interface: i.iface, VirtualRouterID: i.router}
	}
	return out, nil
}

// cluster reads Services and Nodes, of manifests or of an API server.
func (i *importing) cluster(ctx context.Context) (*importer.Cluster, error) {
	if len(i.manifests) > 0 {
		o, err := readManifests(i.manifests, i.namespace, nil)
		if err != nil {
			return nil, err
		}
		return &importer.Cluster{Services: o.services, Nodes: o.nodes}, nil
	}
	kube, err := i.server.client()
	if err != nil {
		return nil, fmt.Errorf("%w; or say with --manifests where the Services are", err)
	}
	return askServices(ctx, kube)
}

func askServices(ctx context.Context, kube client.Reader) (*importer.Cluster, error) {
	var services corev1.ServiceList
	var nodes corev1.NodeList
	for _, list := range []client.ObjectList{&services, &nodes} {
		if err := kube.List(ctx, list); err != nil {
			return nil, fmt.Errorf("asking the API server: %w", err)
		}
	}
	out := &importer.Cluster{}
	for i := range services.Items {
		out.Services = append(out.Services, &services.Items[i])
	}
	for i := range nodes.Items {
		out.Nodes = append(out.Nodes, &nodes.Items[i])
	}
	return out, nil
}

// readSources reads files, and stdin for "-": as much of them as a source may have.
func readSources(paths []string, stdin io.Reader) (out []importer.File, err error) {
	left := int64(importer.MaxBytes)
	for _, path := range paths {
		name, from := path, stdin
		if path == "-" {
			name = "stdin"
		} else {
			file, err := os.Open(path)
			if err != nil {
				return nil, err
			}
			defer file.Close()
			from = file
		}
		data, err := io.ReadAll(io.LimitReader(from, left+1))
		if left -= int64(len(data)); err == nil && left < 0 {
			err = fmt.Errorf("with those before it, it is larger than %d bytes", importer.MaxBytes)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, importer.File{Name: name, Text: string(data)})
	}
	return out, nil
}

// includes finds files that a configuration names, from its own directory.
func includes(dir string) importer.Include {
	return func(pattern string) ([]importer.File, error) {
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(dir, pattern)
		}
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		return readSources(paths[:min(len(paths), importer.MaxFiles)], nil) // as many are too many already
	}
}
