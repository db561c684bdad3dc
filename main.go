// Command external-lb makes Services of type LoadBalancer work with external
// balancers: see `external-lb --help`.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/external-lb/external-lb/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second signal ends what does not heed the first one
	os.Exit(cli.Main(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr))
}
