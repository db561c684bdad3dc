package octavia

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

// Project in which load balancers are, where nothing is said.
const Project = "shop"

// Provider is an `external-lb provider openstack` beside Octavia, in its box.
type Provider struct {
	URL       string
	Token, CA string // files

	o    *Octavia
	args []string
	log  string
	cmd  *cluster.Cmd
	end  context.CancelFunc
}

// Place is where a provider makes load balancers: in a project, with addresses of a subnet or of a network.
type Place struct{ Project, Subnet, Network string }

// StartProvider makes a token and a certificate in a directory, and starts a provider with them that sends to
// some networks.
func (o *Octavia) StartProvider(ctx context.Context, binary, dir string, at Place, nodes ...string) (*Provider, error) {
	o.mu.Lock() // of two at once, one would be told that the flavor is there
	defer o.mu.Unlock()
	address := o.c.Addrs(o.box)[0]
	flavor, err := o.flavor(ctx)
	if err != nil {
		return nil, err
	}
	port := 8480 + o.providers
	o.providers++
	listen := netip.AddrPortFrom(address, port).String()
	p := &Provider{URL: "https://" + listen, Token: filepath.Join(dir, "token"), CA: filepath.Join(dir, "provider.crt"),
		o: o, log: filepath.Join(filepath.Dir(o.c.Kubeconfig()), "logs", fmt.Sprintf("provider-%d.log", port))}
	key := filepath.Join(dir, "provider.key")
	if err := os.WriteFile(p.Token, []byte("a token of tests"), 0o600); err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
		"-subj", "/CN=provider", "-addext", "subjectAltName=IP:"+address.String(), "-keyout", key, "-out", p.CA).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("a certificate: %w\n%s", err, out)
	}
	p.args = []string{binary, "provider", "openstack", "--listen", listen, "--cert", p.CA, "--key", key, "--token-file", p.Token,
		"--endpoint", endpoint, "--project", at.Project, "--subnet", at.Subnet, "--network", at.Network,
		"--nodes", strings.Join(nodes, ","), "--flavors", "single=" + flavor}
	return p, p.Start(ctx)
}

// Start it, also again after Stop, and wait until it answers.
func (p *Provider) Start(ctx context.Context) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	cmd, err := p.o.c.Command(life, p.o.box, p.args...)
	if err == nil {
		cmd.Stdout, cmd.Stderr = log, log
		err = cmd.Start()
	}
	if err != nil {
		end()
		return err
	}
	p.cmd, p.end = cmd, end
	if err := wait.Until(ctx, p.answers); err != nil {
		p.Stop()
		return fmt.Errorf("the provider does not answer: %w\n%s", err, p.Said())
	}
	return nil
}

func (p *Provider) answers(ctx context.Context) error {
	c, err := p.o.c.DialFrom(ctx, p.o.box, "tcp", strings.TrimPrefix(p.URL, "https://"))
	if err == nil {
		c.Close()
	}
	return err
}

// Stop it. What it has made stays.
func (p *Provider) Stop() {
	p.end()
	_ = p.cmd.Wait() // it was killed
}

// Said is what it has printed, at the end of it.
func (p *Provider) Said() string {
	said, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(said[max(0, len(said)-4000):])
}
