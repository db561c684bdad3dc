package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/wire"
)

func newHostAgent() *cobra.Command {
	return &cobra.Command{
		Use:   "agent",
		Short: "Run the agent, which makes deliveries live: a service of systemd",
		Long: `Serve deliveries on a socket of this machine, restore the last good files at start,
and watch what the daemons run. "external-lb host install" makes it a service of
systemd, external-lb-agent, so there is no need to run it by hand. Traffic does not
depend on it: while it does not run, what is live goes on.`,
		Example: `  systemctl status external-lb-agent
  journalctl -u external-lb-agent
  runuser -u external-lb -- external-lb host agent    # where there is no systemd`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := hostSettings()
			if err != nil {
				return err
			}
			a, err := host.NewAgent(settings)
			if err != nil {
				return err
			}
			return serveAgent(cmd.Context(), a, settings.Socket)
		},
	}
}

// newHostEndOldWorkers is what the agent runs as root; nobody else needs it.
func newHostEndOldWorkers() *cobra.Command {
	return &cobra.Command{
		Use:    "end-old-workers",
		Short:  "End the oldest workers while all old ones hold more memory than host.yaml allows",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := thisHost()
			if err == nil {
				a.EndOldWorkers(cmd.Context())
			}
			return err
		},
	}
}

// newHostEndLeftConnections is what the agent runs as root; nobody else needs it.
func newHostEndLeftConnections() *cobra.Command {
	return &cobra.Command{
		Use:    "end-drained",
		Short:  "End the connections of nodes and Services that have gone, and whose time is over",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := thisHost()
			if err == nil {
				err = a.EndLeftConnections(cmd.Context())
			}
			return err
		},
	}
}

// newHostRestore is what a service of systemd runs before the daemons start.
func newHostRestore() *cobra.Command {
	return &cobra.Command{
		Use:    "restore",
		Short:  "Put the last good files in their place, before daemons start",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := thisHost()
			if err != nil {
				return err
			}
			return a.Restore(cmd.Context())
		},
	}
}

// serveAgent serves an agent on a socket until ctx is done.
func serveAgent(ctx context.Context, a *host.Agent, socket string) error {
	l, err := listen(socket)
	if err != nil {
		return err
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		a.Watch(ctx)
	}()
	if err := notify("READY=1"); err != nil {
		return err
	}
	go watchdog(ctx, a)
	err = wire.Listen(ctx, l, a)
	cancel()
	<-watched
	return err
}

// listen opens a socket that this account alone may use. One that nobody answers at
// was left by an agent that was killed.
func listen(socket string) (net.Listener, error) {
	if c, err := net.Dial("unix", socket); err == nil {
		c.Close()
		return nil, fmt.Errorf("an agent listens on %s already", socket)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(socket, 0o600)
}

// notify tells systemd something, if it has started this process.
func notify(state string) error {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	c, err := net.Dial("unixgram", socket)
	if err != nil {
		return fmt.Errorf("telling systemd: %w", err)
	}
	defer c.Close()
	_, err = c.Write([]byte(state))
	return err
}

// watchdogEvery is a third of what systemd waits for (WatchdogSec of the service).
const watchdogEvery = 20 * time.Second

// watchdog tells systemd that the agent answers, as long as it does.
func watchdog(ctx context.Context, a *host.Agent) {
	for again := time.NewTicker(watchdogEvery); ; {
		select {
		case <-ctx.Done():
			again.Stop()
			return
		case <-again.C:
		}
		if a.Answers() {
			_ = notify("WATCHDOG=1") // what systemd does not hear, it acts on
		}
	}
}
