package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// exit ends the program with a code; a nil error has nothing more to say.
type exit struct {
	code  int
	error error
}

func (e exit) Error() string {
	if e.error == nil {
		return ""
	}
	return e.error.Error()
}

// Main runs the command that args name and returns its exit code.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	name, args := filepath.Base(args[0]), args[1:]
	if name == pluginCompleter {
		name, args = plugin, slices.Concat([]string{cobra.ShellCompRequestCmd}, args)
	}
	root := newRoot(name)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	code := 1
	if e, ok := errors.AsType[exit](err); ok {
		code, err = e.code, e.error
	}
	for _, e := range flatten(err) {
		fmt.Fprintln(stderr, "error:", strings.TrimSpace(e.Error()))
	}
	return code
}

// flatten takes joined errors apart, so that each gets a line of its own.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || err.Error() != errors.Join(joined.Unwrap()...).Error() {
		return []error{err}
	}
	var out []error
	for _, e := range joined.Unwrap() {
		out = append(out, flatten(e)...)
	}
	return out
}

// The names under which kubectl finds the program, and asks it what could follow on a line.
const (
	plugin          = "kubectl-external_lb"
	pluginCompleter = "kubectl_complete-external_lb"
)

func newRoot(name string) *cobra.Command {
	root := &cobra.Command{
		Use:   "external-lb",
		Short: "type: LoadBalancer with the balancers that you already trust",
		Long: `external-lb makes Services of type LoadBalancer work on bare metal, with nginx,
HAProxy or LVS on hosts outside the cluster. It tells the hosts over SSH what to
carry. Each makes its daemon's configuration of that, with every NodeIP:NodePort, and
proves that it is live. Then the address is written into the Service's status.

Installed as ` + plugin + `, it is a kubectl plugin: kubectl external-lb status.`,
		Example: `  external-lb status
  external-lb explain service default/web
  external-lb check
  external-lb render -f manifests/
  external-lb host install --authorized-key external-lb.pub --dry-run`,
		Args:          noSuchCommand,
		RunE:          showHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SuggestionsMinimumDistance = 2
	if name == plugin {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl external-lb"}
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
	})
	addGroup(root, "Look at what is:", newStatus(), newTop(), newExplain(), newEvents(), newCheck(), newUI(), newDiff())
	addGroup(root, "Try what would be, and come from elsewhere:", newRender(), newImport())
	addGroup(root, "Run it, and remove it:", newManager(), newHost(), newProvider(), newUninstall())
	root.AddCommand(newVersion())
	return root
}

// addGroup of commands that the help shows under a title.
func addGroup(root *cobra.Command, title string, commands ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: title, Title: title})
	for _, c := range commands {
		c.GroupID = title
	}
	root.AddCommand(commands...)
}

// Commands are the words of every command that is for people, and "" for the program
// itself, in the order of their groups and then of their names.
func Commands() []string {
	root := newRoot("external-lb")
	var paths []string
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		paths = append(paths, strings.TrimSpace(strings.TrimPrefix(c.CommandPath(), root.CommandPath())))
		sub := c.Commands()
		order := func(c *cobra.Command) int {
			at := slices.IndexFunc(root.Groups(), func(g *cobra.Group) bool { return g.ID == c.GroupID })
			return (at + len(root.Groups()) + 1) % (len(root.Groups()) + 1) // those of no group are last
		}
		slices.SortStableFunc(sub, func(a, b *cobra.Command) int { return cmp.Compare(order(a), order(b)) })
		for _, s := range sub {
			if s.IsAvailableCommand() {
				walk(s)
			}
		}
	}
	walk(root)
	return paths
}

func newHost() *cobra.Command {
	host := &cobra.Command{
		SuggestionsMinimumDistance: 2,

		Use:   "host",
		Short: "On a balancer host: prepare it, look at it, and the host's end of a delivery",
		Example: `  external-lb host install --authorized-key external-lb.pub --dry-run
  external-lb host status`,
		Args: noSuchCommand,
		RunE: showHelp,
	}
	host.AddCommand(newHostInstall(), newHostStatus(), newHostTemplates(), newHostApply(), newHostResetTerm(), newHostAgent(), newHostServe(),
		newHostEndOldWorkers(), newHostEndLeftConnections(), newHostRestore())
	return host
}

func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// noSuchCommand refuses what is not a command below this one.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "see " + cmd.CommandPath() + " --help"
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		hint = "did you mean " + strings.Join(like, " or ") + "?"
	}
	return fmt.Errorf("unknown command %q for %q; %s", args[0], cmd.CommandPath(), hint)
}
