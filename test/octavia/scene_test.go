package octavia

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/wait"
)

// project in which our load balancers are. Others have others.
const project = "shop"

// The addresses of load balancers. Octavia gives the upper half by itself.
const addresses, wanted = "203.0.113.0/28", "203.0.113.2"

// scene is a cluster with Octavia beside it, in a box called cloud.
type scene struct {
	*lab.Lab
	cloud *Octavia
	dir   string
}

var env scene

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		code, err := withScene(m)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	}())
}

func withScene(m *testing.M) (code int, err error) {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "external-lb-octavia-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	binary, err := lab.Build(ctx, dir)
	if err != nil {
		return 1, err
	}
	l, err := lab.Start(ctx, lab.Options{
		Cluster: cluster.Options{Dir: filepath.Join(dir, "cluster"), Nodes: 2, Binary: binary, Pools: []string{addresses}},
		Root:    "../..", Bare: true, Log: os.Stderr,
	})
	if err != nil {
		return 1, err
	}
	defer func() {
		if e := l.Stop(); err == nil {
			err = e
		}
	}()
	if err := l.AddClient(ctx, "cloud"); err != nil {
		return 1, err
	}
	if err := l.RouteVia(ctx, "cloud"); err != nil {
		return 1, err
	}
	cloud, err := Start(ctx, l.Cluster, "cloud", addresses, os.Stderr)
	if err != nil {
		return 1, err
	}
	env = scene{l, cloud, dir}
	return m.Run(), nil
}

// address of the box.
func (s *scene) address() netip.Addr { return s.Addrs("cloud")[0] }

// running is an `external-lb provider openstack`.
type running struct {
	url, token, ca string // the last two are files
	stop           func()
}

// startProvider in the box, beside Octavia.
func (s *scene) startProvider(t *testing.T) *running {
	t.Helper()
	dir := t.TempDir()
	listen := netip.AddrPortFrom(s.address(), 8480).String()
	p := &running{url: "https://" + listen, token: filepath.Join(dir, "token"), ca: filepath.Join(dir, "provider.crt")}
	key := filepath.Join(dir, "provider.key")
	if err := os.WriteFile(p.token, []byte("a token of tests"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
		"-subj", "/CN=provider", "-addext", "subjectAltName=IP:"+s.address().String(), "-keyout", key, "-out", p.ca).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd, err := s.Command(ctx, "cloud", s.binary(), "provider", "openstack", "--listen", listen, "--cert", p.ca, "--key", key, "--token-file", p.token,
		"--endpoint", endpoint, "--project", project, "--subnet", Subnet, "--nodes", netip.PrefixFrom(s.address(), 20).Masked().String())
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.stop = func() { cancel(); _ = cmd.Wait() }
	t.Cleanup(func() {
		if p.stop(); t.Failed() {
			t.Logf("the provider said: %s", said.String())
		}
	})
	wait.For(t, func(ctx context.Context) error {
		c, err := s.DialFrom(ctx, "cloud", "tcp", listen)
		if err == nil {
			c.Close()
		}
		return err
	})
	return p
}

func (s *scene) binary() string { return filepath.Join(s.dir, "external-lb") }
