package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Host is a balancer host: network, filesystem, processes and host name of its own.
type Host struct {
	Name string
	c    *Cluster
}

// Host finds a balancer host by name, lb1 and so on.
func (c *Cluster) Host(name string) (*Host, error) {
	if _, err := c.box(name, "host"); err != nil {
		return nil, err
	}
	return &Host{name, c}, nil
}

// Addr is the address where the host's sshd listens, on port 22.
func (h *Host) Addr() netip.Addr { return h.c.Addrs(h.Name)[0] }

// Exec runs a command in the host as root and returns its stdout.
func (h *Host) Exec(ctx context.Context, argv ...string) (string, error) {
	return h.c.Exec(ctx, h.Name, argv...)
}

// Shell runs a script in the host as root and returns its stdout.
func (h *Host) Shell(ctx context.Context, script string) (string, error) {
	return h.Exec(ctx, "/bin/sh", "-ec", script)
}

// Command is a command in the host, for input, output or a life of its own.
func (h *Host) Command(ctx context.Context, argv ...string) (*Cmd, error) {
	return h.c.Command(ctx, h.Name, argv...)
}

// Log starts what takes the place of syslog: what comes to a socket is appended to a file.
func (h *Host) Log(ctx context.Context, socket, file string) error {
	_, err := h.Shell(ctx, fmt.Sprintf("setsid %s log %s %s >/dev/null 2>&1 </dev/null & until [ -S %[2]s ]; do sleep 0.05; done", h.c.now().Helper, socket, file))
	return err
}

// Ask sends a line to a socket of the host, and returns what is answered.
func (h *Host) Ask(ctx context.Context, socket, line string) (string, error) {
	return h.Exec(ctx, h.c.now().Helper, "ask-unix", socket, line)
}

// WriteFile writes a file in the host, with its directories.
func (h *Host) WriteFile(ctx context.Context, path string, data []byte) error {
	return h.c.writeIn(ctx, h.Name, path, data)
}

// ReadFile reads a file of the host.
func (h *Host) ReadFile(ctx context.Context, path string) ([]byte, error) {
	out, err := h.Exec(ctx, "cat", path)
	return []byte(out), err
}

// KnownHosts are lines for a known_hosts file, one for each address of the host.
func (h *Host) KnownHosts(ctx context.Context) (string, error) {
	key, err := h.Exec(ctx, "cat", "/etc/ssh/ssh_host_ed25519_key.pub")
	if err != nil {
		return "", err
	}
	fields := strings.Fields(key)
	if len(fields) < 2 {
		return "", fmt.Errorf("host %s: unexpected host key %q", h.Name, key)
	}
	var lines strings.Builder
	for _, a := range h.c.Addrs(h.Name) {
		fmt.Fprintf(&lines, "%s %s %s\n", a, fields[0], fields[1])
	}
	return lines.String(), nil
}

// AddHost makes a balancer host and boots it. Routes to the virtual addresses are left as they are: see RouteVia.
func (c *Cluster) AddHost(ctx context.Context, name string) error {
	if _, err := c.reserve(name, "host"); err != nil {
		return err
	}
	return c.buildHost(ctx, name)
}

func (c *Cluster) buildHost(ctx context.Context, name string) error {
	if c.now().Options.virtual() {
		if err := c.buildImage(ctx, name); err != nil {
			return err
		}
		return c.boot(ctx, name, true)
	}
	disk := c.disk(name)
	if _, err := c.router().command(ctx, "mkdir", "-p", disk).Output(); err != nil {
		return err
	}
	if _, err := c.router().command(ctx, "mount", "-t", "tmpfs", "-o", "mode=755,size="+c.now().Options.HostDisk, "tmpfs", disk).Output(); err != nil {
		return err
	}
	return c.boot(ctx, name, true)
}

// disk is where the host's writes go: a tmpfs of its own below the cluster's, which only the cluster sees.
func (c *Cluster) disk(name string) string { return filepath.Join(c.dir, "hosts", name) }

// firstBoot makes a host out of a copy of this machine.
const firstBoot = `
hostname > /etc/hostname
printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 %s\n' "$(hostname)" > /etc/hosts
rm -f /etc/ssh/ssh_host_*
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
mkdir -p /var/log/nginx
`

// enoughForABalancer is what the owner of a host with nginx has to set: see docs/reference/nginx.md.
const enoughForABalancer = `
[ ! -f /etc/nginx/nginx.conf ] || sed -i 's/worker_connections 768;/worker_connections 8192;/; 1i worker_rlimit_nofile 16384;' /etc/nginx/nginx.conf
`

// everyBoot starts what a Debian host would: its own settings for the network and sshd; the balancer's
// daemon and /etc/rc.local follow. Each of them daemonizes.
const everyBoot = `
sysctl -q -e --system --pattern '^net' >/var/log/sysctl.log 2>&1 || true
/usr/sbin/sshd -E /var/log/sshd.log || { cat /var/log/sshd.log >&2; exit 1; }
`

var startEngine = map[string]string{
	"nginx": "nginx\n",
	// HAProxy exits 2 when its configuration has no listener yet, as Debian's own has.
	"haproxy": `CONFIG=/etc/haproxy/haproxy.cfg; EXTRAOPTS=; mkdir -p /run/haproxy
if [ -r /etc/default/haproxy ]; then . /etc/default/haproxy; fi
haproxy -W -D -p /run/haproxy.pid -f $CONFIG $EXTRAOPTS >/var/log/haproxy.boot.log 2>&1 || [ $? = 2 ]
`,
	"lvs":  startKeepalived,
	"none": "true\n",
}

// startKeepalived, where it has something to do.
const startKeepalived = "if [ -s /etc/keepalived/keepalived.conf ] && ! pgrep -x keepalived >/dev/null; then keepalived; fi\n"

// startAgent starts external-lb's agent on a host that is prepared, as systemd does where it runs: by
// the account of deliveries, and again when it ends.
const startAgent = `if [ -f /etc/external-lb/host.yaml ] && id external-lb >/dev/null 2>&1 && program=$(command -v external-lb) &&
! pgrep -f '^/bin/sh /run/external-lb-agent.sh' >/dev/null; then
install -d -m 750 -o external-lb -g external-lb /run/external-lb
echo "while :; do runuser -u external-lb -- $program host agent; sleep 0.2; done" >/run/external-lb-agent.sh
setsid /bin/sh /run/external-lb-agent.sh >>/var/log/external-lb-agent.log 2>&1 </dev/null &
i=0
until [ -S /run/external-lb/agent.sock ]; do i=$((i+1)); [ $i -lt 600 ] || { cat /var/log/external-lb-agent.log >&2; exit 1; }; sleep 0.05; done
fi
`

// rcLocal is for whatever a test wants started.
const rcLocal = "if [ -x /etc/rc.local ]; then /etc/rc.local; fi\n"

// boot makes the host's network and starts its processes. At its first boot the engine's daemon must
// start; later that is its own affair: a host with a broken configuration boots all the same.
func (c *Cluster) boot(ctx context.Context, name string, first bool) error {
	s := c.now()
	start := c.startHost
	if s.Options.virtual() {
		start = c.startMachine
	}
	started, err := start(ctx, name, s.Boxes[name].At)
	if err != nil {
		return fmt.Errorf("host %s: %w", name, err)
	}
	if err := c.update(func(s *state) { b := s.Boxes[name]; b.Init, b.Cut = started, false; s.Boxes[name] = b }); err != nil {
		return err
	}
	h := &Host{name, c}
	if err := c.connectHost(ctx, h); err != nil {
		return fmt.Errorf("host %s: %w", name, err)
	}
	script := everyBoot + startEngine[s.Options.Engine] + startKeepalived + startAgent + rcLocal
	if first {
		prepare := firstBoot + enoughForABalancer
		if !s.Options.KeepDefaultSite {
			prepare += "rm -f /etc/nginx/sites-enabled/default\n"
		}
		script = prepare + script
	} else {
		script = everyBoot + "(" + startEngine[s.Options.Engine] + ") >/var/log/boot.log 2>&1 || true\n" + startKeepalived + startAgent + rcLocal
	}
	if _, err := h.Shell(ctx, script); err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	return c.await(ctx, "", name+"'s sshd", func() error { return answers(ctx, h.Addr(), 22) })
}

// startHost makes the network of a host that is a set of namespaces, and its first process.
func (c *Cluster) startHost(ctx context.Context, name string, at int) (process, error) {
	if err := c.addBox(ctx, name, at); err != nil {
		return process{}, err
	}
	s := c.now()
	cmd := c.netns(name).command(context.WithoutCancel(ctx), s.Helper, "host", "-name", name, "-disk", c.disk(name), "-binary", s.Options.Binary)
	starter, err := cmd.ready(c.log(name))
	if err != nil {
		return process{}, err
	}
	return starter.child()
}

// connectHost completes the network of a host that runs.
func (c *Cluster) connectHost(ctx context.Context, h *Host) error {
	s := c.now()
	var settings, lines []string
	if s.Options.virtual() {
		settings, lines = boxSettings(), c.boxLines(s.Boxes[h.Name].At)
	}
	if s.Options.Addresses == "static" {
		lines = append(lines, c.localRoutes()...)
		// Local by a route is enough to bind to an IPv4 address, but not to an IPv6 address.
		settings = append(settings, "net/ipv6/ip_nonlocal_bind=1")
	}
	return c.setUpMachine(ctx, h.Name, settings, lines)
}

// StartEngine starts the engine's daemon as the machine's boot does.
func (h *Host) StartEngine(ctx context.Context) error {
	_, err := h.Shell(ctx, startEngine[h.c.now().Options.Engine])
	return err
}

// StartKeepalived starts keepalived as the machine's boot does.
func (h *Host) StartKeepalived(ctx context.Context) error {
	_, err := h.Shell(ctx, startKeepalived)
	return err
}

// StartAgent starts external-lb's agent on a host that was prepared since it booted.
func (h *Host) StartAgent(ctx context.Context) error {
	_, err := h.Shell(ctx, startAgent)
	return err
}

// localRoutes make every address of the pools one of the host's own, without listing them (AnyIP).
func (c *Cluster) localRoutes() []string {
	var lines []string
	for _, pool := range c.now().Options.Pools {
		lines = append(lines, "route add local "+pool+" dev lo")
	}
	return lines
}

// PowerOff ends every process of the host at once. What it wrote to its filesystem stays, but for /run and /tmp.
func (h *Host) PowerOff(ctx context.Context) error {
	b := h.c.now().Boxes[h.Name]
	if !b.Init.alive() {
		return nil
	}
	if b.Virtual {
		return h.c.stopMachine(ctx, h.Name, b)
	}
	if err := b.Init.kill(unix.SIGKILL); err != nil {
		return err
	}
	return h.c.removeBox(ctx, h.Name, b.At)
}

// PowerOn boots the host again: network, sshd, the engine's daemon, /etc/rc.local.
func (h *Host) PowerOn(ctx context.Context) error {
	if h.c.now().Boxes[h.Name].Init.alive() {
		return errors.New("host " + h.Name + " is on already")
	}
	return h.c.boot(ctx, h.Name, false)
}

// Reboot is PowerOff and PowerOn.
func (h *Host) Reboot(ctx context.Context) error {
	if err := h.PowerOff(ctx); err != nil {
		return err
	}
	return h.PowerOn(ctx)
}
