package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func newUninstall() *cobra.Command {
	var server apiServer
	var withdraw bool
	u := &uninstall{pause: askAgain}
	cmd := &cobra.Command{
		Use:   "uninstall (--withdraw | --keep-hosts)",
		Short: "Take external-lb out of a cluster, so that nothing hangs when it is deleted",
		Long: `Prepare a cluster for the removal of external-lb. Without this, its finalizers hold
Balancers, Services and their namespaces for ever. Say what becomes of the traffic:

--withdraw    The Balancers are deleted. The controller, which must be running,
              withdraws each Service from the hosts; then nothing answers any more.
--keep-hosts  The hosts go on with what they carry now, and Services keep their
              addresses in their status. The controller is stopped: its Deployment
              is scaled to 0. Then our finalizers and records are taken off the
              Services, and the Balancers are deleted. Nothing is said to any host.

It shows what it waits for: which host, which Services, since when and why. It can
be run again at any time and goes on where it was. A controller that was started with
--leader-elect=false must be stopped by hand before --keep-hosts.

When it is done, it says what deletes the rest: "kubectl delete -k config/default" (or
-f and the install.yaml of a release), or what Helm takes. The exit code is 0 when it is
done, 1 if something failed, and 2 if the time was over before.`,
		Example: `  external-lb uninstall --withdraw --dry-run
  external-lb uninstall --withdraw
  external-lb uninstall --keep-hosts --timeout 10m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if withdraw == u.keep {
				return errors.New("say what becomes of the traffic: either --withdraw or --keep-hosts; see external-lb uninstall --help")
			}
			if u.kube, err = server.client(); err != nil {
				return err
			}
			u.out = cmd.OutOrStdout()
			ctx, cancel := context.WithTimeout(cmd.Context(), u.timeout)
			defer cancel()
			return u.run(ctx)
		},
	}
	server.flags(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&withdraw, "withdraw", false, "withdraw all Services from the hosts")
	flags.BoolVar(&u.keep, "keep-hosts", false, "leave the hosts and the Services' status as they are")
	flags.StringVarP(&u.namespace, "namespace", "n", defaultNamespace, "namespace of the controller")
	flags.DurationVar(&u.timeout, "timeout", 5*time.Minute, "how long to wait in all")
	flags.BoolVar(&u.dryRun, "dry-run", false, "say what would be done, and do nothing")
	return cmd
}

// askAgain is how often it is looked what is left.
func askAgain(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Second):
		return nil
	}
}

// uninstall takes external-lb out of a cluster.
type uninstall struct {
	kube         client.Client
	namespace    string // of the controller
	keep, dryRun bool
	timeout      time.Duration
	out          io.Writer
	pause        func(context.Context) error

	lease leaseWatch
	told  string // what it waits for, as was printed last
}

// say prints what was done, or would be.
func (u *uninstall) say(format string, args ...any) {
	suffix := ""
	if u.dryRun {
		suffix = " (dry run)"
	}
	fmt.Fprintf(u.out, format+suffix+"\n", args...)
}

func (u *uninstall) run(ctx context.Context) error {
	left, err := u.look(ctx)
	if err != nil {
		return u.ended(ctx, left, err)
	}
	if left.nothing() {
		fmt.Fprintln(u.out, "No Balancer is left, and no Service has a finalizer of ours. The rest: "+u.rest(ctx))
		return nil
	}
	begin := u.withdraw
	if u.keep {
		begin = u.keepHosts
	}
	if err := begin(ctx, left); err != nil || u.dryRun {
		return u.ended(ctx, left, err)
	}
	if u.keep {
		left = remains{} // what became of it is told
	}
	if left, err = u.finish(ctx, left); err != nil {
		return u.ended(ctx, left, err)
	}
	fmt.Fprintln(u.out, "Done. The rest: "+u.rest(ctx))
	return nil
}

// rest deletes what is left, in the way in which the controller was installed, as far as that
// can be seen. Helm leaves the kinds.
func (u *uninstall) rest(ctx context.Context) string {
	all, err := u.deployments(ctx)
	for _, d := range all.Items {
		if release := d.Annotations["meta.helm.sh/release-name"]; release != "" && err == nil {
			return fmt.Sprintf("helm uninstall %s --namespace %s, and then kubectl delete crd "+
				"balancers.external-lb.dev addresspools.external-lb.dev upstreampolicies.external-lb.dev", release, d.Namespace)
		}
	}
	return "kubectl delete -k config/default"
}

// withdraw lets the controller do all: it withdraws the Services of a Balancer that is
// deleted, and then lets it go.
func (u *uninstall) withdraw(ctx context.Context, left remains) error {
	for _, b := range left.balancers {
		if b.DeletionTimestamp != nil {
			u.say("Balancer %s: is being deleted since %s", b.Name, b.DeletionTimestamp.UTC().Format(time.RFC3339))
		} else {
			if err := u.delete(ctx, b, client.Preconditions{}); err != nil {
				return err
			}
			u.say("Balancer %s: deleted; its hosts (%s) withdraw what they carry", b.Name, hostNames(b))
		}
	}
	if u.dryRun {
		for _, svc := range left.services {
			u.say("Service %s: withdrawn", describeService(svc))
		}
	}
	return nil
}

// finish waits until nothing is left, and tells what it waits for.
func (u *uninstall) finish(ctx context.Context, before remains) (remains, error) {
	for {
		left, err := u.look(ctx)
		switch {
		case ctx.Err() != nil:
			return before, ctx.Err()
		case err != nil: // an API server that is away for a while is no reason to give up
			u.tell(err.Error())
		default:
			u.tellGone(before, left)
			if before = left; left.nothing() {
				return left, nil
			}
			u.tell(strings.Join(left.waits(), "\n"))
		}
		if err := u.pause(ctx); err != nil {
			return before, err
		}
	}
}

// tell what is waited for, where it is news.
func (u *uninstall) tell(waits string) {
	if waits == u.told || waits == "" {
		return
	}
	u.told = waits
	for line := range strings.Lines(waits) {
		fmt.Fprintln(u.out, "waiting for", strings.TrimSpace(line))
	}
}

// tellGone tells what is no longer there.
func (u *uninstall) tellGone(before, left remains) {
	still := map[types.UID]bool{}
	for _, svc := range left.services {
		still[svc.UID] = true
	}
	for _, b := range left.balancers {
		still[b.UID] = true
	}
	for _, svc := range before.services {
		if !still[svc.UID] {
			u.say("Service %s: let go", describeService(svc))
		}
	}
	for _, b := range before.balancers {
		if !still[b.UID] {
			u.say("Balancer %s: gone", b.Name)
		}
	}
}

// ended says how far it came where it did not come to its end.
func (u *uninstall) ended(ctx context.Context, left remains, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return exit{2, fmt.Errorf("not done after %s: %s. Run it again to go on", u.timeout, left.count())}
	case ctx.Err() != nil:
		return errors.New("interrupted: run it again to go on")
	default:
		return err
	}
}
