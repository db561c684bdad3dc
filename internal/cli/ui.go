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
	var port int
	cmd := &cobra.Command{
		Use:   "ui",
		Short: "Show Balancers, hosts, nodes, pools and Services on a page for the browser",
		Long: `Serve a page that shows what the API server knows of Balancers, and follows it: which
hosts and nodes carry which Service, what is wrong and in which words, the story of
each Service, and which addresses of a pool are free. It reads with the rights of your
kubeconfig, and changes nothing.

The page is for browsers on this machine, and for whoever knows its address, which is
another one each time.`,
		Example: `  external-lb ui
  external-lb ui --port 8089`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := server.config()
			if err != nil {
				return err
			}
			config.QPS = -1
			// What is wrong with the connection is on the page.
			log.SetLogger(logr.Discard())
			klog.SetLogger(logr.Discard())
			return ui.Run(cmd.Context(), ui.Options{
				Config: config, Scheme: controllers.Scheme(), Port: port,
				Ready: func(url string) { fmt.Fprintf(cmd.OutOrStdout(), "Open %s\nCtrl-C ends it.\n", url) },
			})
		},
	}
	server.flags(cmd)
	cmd.Flags().IntVar(&port, "port", 0, "port on 127.0.0.1 (default: one that is free)")
	return cmd
}
