package cluster

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

func (c *Cluster) backup() string { return filepath.Join(c.dir, "etcd-backup") }

// Backup keeps all that etcd has, in place of what was kept before. The API server is away
// meanwhile, as in an outage.
func (c *Cluster) Backup(ctx context.Context) error {
	return c.withoutEtcd(ctx, func() error {
		return errors.Join(os.RemoveAll(c.backup()), exec.CommandContext(ctx, "cp", "-a", c.etcdData(), c.backup()).Run())
	})
}

// Restore brings back what Backup has kept. What belongs to Kubernetes starts anew, as its
// documentation wants it: versions of objects are given a second time, so who goes on
// watching sees little of what comes.
func (c *Cluster) Restore(ctx context.Context) error {
	err := c.withoutEtcd(ctx, func() error {
		return errors.Join(os.RemoveAll(c.etcdData()), exec.CommandContext(ctx, "cp", "-a", c.backup(), c.etcdData()).Run())
	})
	if err != nil {
		return err
	}
	if err := errors.Join(c.stopDaemon("kube-controller-manager", unix.SIGKILL), c.startControllerManager(ctx)); err != nil {
		return err
	}
	for _, node := range c.Nodes() {
		if err := errors.Join(c.stopDaemon(proxyOf(node), unix.SIGKILL), c.startProxy(ctx, node)); err != nil {
			return err
		}
	}
	return nil
}

// withoutEtcd does something while etcd and the API server are stopped.
func (c *Cluster) withoutEtcd(ctx context.Context, do func() error) error {
	if err := errors.Join(c.StopAPIServer(), c.stopDaemon("etcd", unix.SIGTERM)); err != nil {
		return err
	}
	return errors.Join(do(), c.startEtcd(), c.StartAPIServer(ctx))
}
