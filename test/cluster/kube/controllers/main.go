// Command controllers is kube-controller-manager and kube-proxy, whole and unchanged, in one program that
// is linked once: it is the one by whose name it is started.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	_ "time/tzdata" // of CronJobs

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
)

func main() {
	switch name := filepath.Base(os.Args[0]); name {
	case "kube-controller-manager":
		os.Exit(cli.Run(manager.NewControllerManagerCommand()))
	case "kube-proxy":
		os.Exit(cli.Run(proxy.NewProxyCommand()))
	default:
		fmt.Fprintf(os.Stderr, "started as %q, want kube-controller-manager or kube-proxy\n", name)
		os.Exit(2)
	}
}
