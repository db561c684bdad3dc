// Command apiserver is etcd and kube-apiserver, whole and unchanged, in one program that is linked once:
// it is the one by whose name it is started.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	_ "time/tzdata" // of CronJobs

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	switch name := filepath.Base(os.Args[0]); name {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		os.Exit(cli.Run(app.NewAPIServerCommand()))
	default:
		fmt.Fprintf(os.Stderr, "started as %q, want etcd or kube-apiserver\n", name)
		os.Exit(2)
	}
}
