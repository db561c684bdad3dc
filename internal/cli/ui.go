package cli

import (
	"fmt"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/external-lb/external-lb/controllers"
	"github.com/external-lb/external-lb/internal/ui"
)

func newUI() *cobra.Command {
	var server apiServer
	var from managerMetrics
	var port int
	cmd := &cobra.Command{
		Use:   "ui",
		Short: "Show Balancers, hosts, nodes, pools and Services on a page for the browser",
		Long: `Serve a page that shows what the API server knows of Balancers, and follows it: which
hosts and nodes carry which Service, what is wrong and in which words, the story of
each Service, and which addresses of a pool are free. It reads with the rights of your
kubeconfig, and changes nothing.

Traffic comes from the manager's metrics, while somebody looks: by the API server's proxy
to the pod that leads, which takes the right to get pods/proxy and leases in its
namespace, or from --metrics. Without them the page shows all but that.

The page is for browsers on this machine, and for whoever knows its address, which is
another one each time.`,
		Example: `  external-lb ui
  external-lb ui --port 8089
  external-lb ui --metrics http://127.0.0.1:8080/metrics`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := server.config()
			if err != nil {
				return err
			}
			config.QPS = -1
			traffic, err := from.traffic(&server)
			if err != nil {
				return err
			}
			// What is wrong with the connection is on the page.
			log.SetLogger(logr.Discard())
			klog.SetLogger(logr.Discard())
			return ui.Run(cmd.Context(), ui.Options{
				Config: config, Scheme: controllers.Scheme(), Port: port, Traffic: traffic,
				Ready: func(url string) { fmt.Fprintf(cmd.OutOrStdout(), "Open %s\nCtrl-C ends it.\n", url) },
			})
		},
	}
	server.flags(cmd)
	flags := cmd.Flags()
	flags.IntVar(&port, "port", 0, "port on 127.0.0.1 (default: one that is free)")
	flags.StringVar(&from.url, "metrics", "", "URL of the manager's metrics (default: by the API server's proxy to the pod that leads)")
	flags.StringVar(&from.namespace, "namespace", defaultNamespace, "namespace of the manager")
	server.completeNamespaces(cmd, "namespace")
	flags.IntVar(&from.port, "metrics-port", 8080, "port of the manager's metrics")
	return cmd
}
