package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/wire"
)

func newHostStatus() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what is live on this machine",
		Long: `Ask this machine's agent what its daemons run, and what it refuses and why. Where no
agent answers, the daemons are asked, and compared with the files that are there. Run
it as root or as the user that deliveries log in as.`,
		Example: `  external-lb host status
  external-lb host status --output json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("--output %q: want text or json", output)
			}
			settings, err := hostSettings()
			if err != nil {
				return err
			}
			status, err := hostNow(cmd.Context(), settings)
			if err != nil {
				return err
			}
			if settings.Admit.Open() {
				status.Message = cmp.Or(status.Message, openMessage)
			}
			if output == "json" {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(status)
			}
			return printHostStatus(cmd.OutOrStdout(), settings, status)
		},
	}
	outputFlag(cmd, &output, "text", "json")
	return cmd
}

// openMessage is for a machine whose owner has not said what it may carry.
const openMessage = "every address and port may be listened on but those of this host's own daemons: say admit.addresses and admit.ports in " + host.SettingsPath

// agentWait is longer than an agent takes for its first word.
const agentWait = 3 * time.Second

// hostStatus is what a machine runs, and who says so.
type hostStatus struct {
	host.Status
	Agent string // version of the agent that said it; "": none did, and it was read from files
}

// hostNow is what the agent says: it alone knows what it did since it runs. Where none
// answers it is what the files and the daemons say.
func hostNow(ctx context.Context, s host.Settings) (hostStatus, error) {
	files, err := host.NewAgent(s)
	if err != nil {
		return hostStatus{}, err
	}
	cluster, kept := files.Recorded()
	said, silent := askAgent(ctx, s.Socket, cluster)
	if silent == nil {
		said.Cluster, said.Kept = cluster, kept // which do not cross the wire
		return said, nil
	}
	status, err := files.Status(ctx)
	status.Message = silent.Error()
	return hostStatus{Status: status}, err
}

// askAgent asks the agent of this machine. An error says what is wrong with it.
func askAgent(ctx context.Context, socket, cluster string) (out hostStatus, err error) {
	const nothingNew = "so nothing new is taken; what is live goes on: systemctl "
	c, err := net.Dial("unix", socket)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return out, errors.New("this user may not ask the agent: run it as root, or as the user that deliveries log in as")
	case err != nil:
		return out, errors.New("the agent does not run, " + nothingNew + "start external-lb-agent")
	}
	first, cancel := context.WithTimeout(ctx, agentWait)
	client, err := wire.NewClient(first, c)
	cancel()
	if other, ok := errors.AsType[*wire.VersionError](err); ok {
		return out, fmt.Errorf("the agent that runs is external-lb %s, and this program another one: systemctl restart external-lb-agent", other.Theirs.Version)
	}
	if err == nil {
		defer client.Close()
		client.Cluster, out.Agent = cluster, client.Version()
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		out.Status, err = client.Status(ctx)
	}
	if said, ok := errors.AsType[*host.Error](err); ok {
		return out, fmt.Errorf("the agent says no: %w", said)
	}
	if err != nil {
		return out, fmt.Errorf("the agent does not answer (%w), %srestart external-lb-agent", err, nothingNew)
	}
	return out, nil
}

// deliveredBy says who has delivered last.
func deliveredBy(s host.Status) string {
	switch {
	case s.Epoch != (host.Epoch{}):
		return fmt.Sprintf("cluster %s, in term %d", cmp.Or(s.Cluster, "unknown"), s.Epoch.Term)
	case s.Cluster != "":
		return "nobody; cluster " + s.Cluster + " may"
	default:
		return "nobody; the first cluster that does so stays"
	}
}

func printHostStatus(out io.Writer, set host.Settings, s hostStatus) error {
	services := 0
	for key := range s.Live.All() {
		if _, ok := key.ServiceID(); ok {
			services++
		}
	}
	live := s.Live.Digest().Short()
	switch {
	case s.Generation == "":
		live = "nothing is proved to be live"
	case !s.Proved:
		live += " (not as on disk)"
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	who := "the agent, external-lb " + s.Agent
	if s.Agent == "" {
		who = "this program, from files and by asking the daemons: no agent does"
	}
	fmt.Fprintf(w, "said by\t%s\n", who)
	fmt.Fprintf(w, "engine\t%s\nrunning\t%t\nlive\t%s\nServices\t%d\nold workers\t%d\n",
		s.EngineVersion, s.Running, live, services, s.OldWorkers)
	if set.VRRP {
		fmt.Fprintf(w, "has the addresses\t%t\n", s.Active)
	}
	for _, u := range s.Uses.All() {
		if u.Limit > 0 {
			limit := strconv.Itoa(u.Limit)
			if u.Bytes {
				limit = size(float64(u.Limit))
			}
			fmt.Fprintf(w, "%s\t%d %% of %s\n", u.Name, u.Used*100/u.Limit, limit)
		}
	}
	if n := set.ConnectionsPerService; n > 0 {
		over := ""
		if set.Datagrams != "" { // the kernel counts by node alone
			over = " over TCP"
		}
		fmt.Fprintf(w, "one Service\tat most %d clients connected%s\n", n, over)
	}
	if s.Kept != "" {
		fmt.Fprintf(w, "kept for root\t%s\n", s.Kept)
	}
	fmt.Fprintf(w, "delivered by\t%s\n", deliveredBy(s.Status))
	for _, r := range s.Refused {
		what := r.Key.Describe()
		if !r.OfItem() {
			what += " " + r.Listener.String()
		}
		fmt.Fprintf(w, "refused\t%s: %s\n", what, r.Message)
	}
	for _, problem := range []string{s.Message, s.Restarted, s.Templates} {
		if problem != "" {
			fmt.Fprintf(w, "problem\t%s\n", problem)
		}
	}
	return w.Flush()
}
