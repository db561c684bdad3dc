package cluster

import (
	"context"
	"strconv"

	"golang.org/x/sys/unix"
)

// Serve starts an echo server for HTTP on a node itself, and returns when it listens: where there is no
// Kubernetes (NetworkOnly), it is what the port of a node leads to.
func (c *Cluster) Serve(ctx context.Context, node string, port int) error {
	if _, err := c.box(node, "node"); err != nil {
		return err
	}
	cmd := c.netns(node).command(context.WithoutCancel(ctx), "POD=echo", "NODE="+node,
		c.now().Helper, "echo", "-http", strconv.Itoa(port))
	started, err := cmd.ready(c.log(server(node)))
	if err != nil {
		return err
	}
	return c.update(func(s *state) { s.Daemons[server(node)] = started })
}

// StopServing ends what Serve started, at once.
func (c *Cluster) StopServing(node string) error { return c.stopDaemon(server(node), unix.SIGKILL) }

func server(node string) string { return "echo-" + node }
