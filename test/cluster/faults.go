package cluster

import (
	"context"
	"fmt"
	"net/http"
)

// Cut pulls the cable of a host, node or client: both directions stop, and the link loses the carrier, but
// for that of a virtual machine.
func (c *Cluster) Cut(ctx context.Context, name string) error { return c.link(ctx, name, true) }

// Heal plugs the cable in again.
func (c *Cluster) Heal(ctx context.Context, name string) error { return c.link(ctx, name, false) }

func (c *Cluster) link(ctx context.Context, name string, cut bool) error {
	b, err := c.box(name, "")
	if err != nil {
		return err
	}
	to := map[bool]string{true: "down", false: "up"}[cut]
	if b.Virtual { // whose end would stop for good when its packets are refused
		to = map[bool]string{true: "nomaster", false: "master br0"}[cut]
	}
	if err := ip(ctx, c.router(), fmt.Sprintf("link set p%d %s", b.At, to)); err != nil {
		return err
	}
	return c.update(func(s *state) { b := s.Boxes[name]; b.Cut = cut; s.Boxes[name] = b })
}

// AddClient makes one more client, which reaches the virtual addresses by the router.
func (c *Cluster) AddClient(ctx context.Context, name string) error {
	at, err := c.reserve(name, "client")
	if err != nil {
		return err
	}
	return c.addBox(ctx, name, at)
}

func httpOK(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}
