package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/external-lb/external-lb/controllers"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/ui"
	"github.com/external-lb/external-lb/internal/wire"
)

func newManager() *cobra.Command {
	var o controllers.Options
	var server apiServer
	var level, format string
	cmd := &cobra.Command{
		Use:   "manager",
		Short: "Run the controller",
		Long: `Run the controller: watch Services, Nodes, Balancers, AddressPools and
UpstreamPolicies, and keep the balancer hosts and the Services' addresses.
Several replicas can run; one of them works.`,
		Example: `  external-lb manager                                     in a pod
  external-lb manager --kubeconfig ~/.kube/config --namespace external-lb-system`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := newLogger(cmd.ErrOrStderr(), level, format)
			if err != nil {
				return err
			}
			ctrl.SetLogger(log)
			klog.SetLogger(log)
			config, err := server.config()
			if err != nil {
				return err
			}
			if o.Namespace == "" {
				if o.Namespace, err = ownNamespace(); err != nil {
					return err
				}
			}
			o.Log, o.Local = log, localHost{}
			log.Info("Starting", "version", host.Version(), "namespace", o.Namespace)
			return controllers.Run(cmd.Context(), config, o)
		},
	}
	flags := cmd.Flags()
	server.flags(cmd)
	flags.StringVar(&o.Namespace, "namespace", "", "namespace of the Secrets with the hosts' keys and of the Lease (default: the pod's own)")
	flags.BoolVar(&o.LeaderElection, "leader-elect", true, "let one of several replicas work")
	flags.BoolVar(&o.TLSSecrets, "tls-secrets", false, "read the certificates that UpstreamPolicies name, from Secrets of type kubernetes.io/tls in any namespace: it takes the rights of config/components/tls")
	flags.StringVar(&o.MetricsAddress, "metrics-address", ":8080", "address to serve metrics on; 0 for none")
	flags.StringVar(&o.HealthAddress, "health-address", ":8081", "address to serve /healthz and /readyz on; 0 for none")
	flags.StringVar(&o.UI.Address, "ui-address", "0", "address to serve a page for browsers on; 0 for none. "+
		"127.0.0.1:8082 is for kubectl port-forward; :8082 takes TLS, and a token of who may get "+ui.Path)
	flags.StringArrayVar(&o.UI.Names, "ui-host", nil, "name under which the page is asked for, beside localhost; may be repeated")
	flags.StringVar(&o.UI.CertDir, "ui-cert-dir", "", "directory with tls.crt and tls.key of the page (default: it makes a certificate for itself)")
	flags.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&format, "log-format", "auto", "json, text, or auto: text on a terminal")
	return cmd
}

const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

func ownNamespace() (string, error) {
	data, err := os.ReadFile(namespaceFile)
	if errors.Is(err, os.ErrNotExist) {
		return "", errors.New("not in a pod: say --namespace, where the Secrets with the hosts' keys are")
	}
	return strings.TrimSpace(string(data)), err
}

// localHost connects to the agent of this machine.
type localHost struct{}

func (localHost) Dial(ctx context.Context, t deliver.Target) (deliver.Conn, error) {
	settings, err := hostSettings()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return dialAgent(ctx, settings.Socket, t)
}

func dialAgent(ctx context.Context, socket string, t deliver.Target) (deliver.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("%w: start it (systemctl start external-lb-agent)", err)
	}
	client, err := wire.NewClient(ctx, c)
	if err != nil {
		return nil, err
	}
	client.Cluster = t.Cluster
	return client, nil
}
