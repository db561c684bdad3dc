// Package octavia runs Octavia, OpenStack's load balancers, on the test cluster: its real API, worker, drivers and
// database, and its data plane, which is a HAProxy for each load balancer and a keepalived for each listener of
// datagrams, with the configuration that Octavia writes. What is not there is the rest of an OpenStack: machines of
// its own, networks, credentials. In place of Neutron, scripts/amphora.py gives addresses and lets clients in.
package octavia

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/flavorprofiles"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"

	"github.com/external-lb/external-lb/internal/provider/openstack"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

// The root file system is made of base; what is run in it is in scripts.
//
//go:embed base scripts
var files embed.FS

// Subnet and Network are the IDs of those of load balancers. Without Neutron, each UUID is one.
const (
	Subnet  = "2b7c8d0a-6f0e-4f0b-9b1c-7a2f6a3d9c11"
	Network = "8d0f5b1e-3c5d-4a57-9f5b-51f8a0a4c6d2"
)

// Octavia that runs in a box of a cluster. It ends with the cluster.
type Octavia struct {
	c              *cluster.Cluster
	box, root, dir string

	mu        sync.Mutex // whoever makes a provider
	providers uint16     // that were made: each has a port of its own
}

// Tags of load balancers, before a Service's UID and its namespace/name.
const serviceTag, nameTag = "external-lb:service=", "external-lb:name="

// Start it in the network of a box, where all addresses of some ranges are then local, and give away those of the
// first one. Datagrams go to a host that has IPVS. The first time, it is built: a minute or two, and 1.2 GB.
func Start(ctx context.Context, c *cluster.Cluster, box, host string, ranges []string, log io.Writer) (*Octavia, error) {
	root, err := build(ctx, log)
	if err != nil {
		return nil, err
	}
	o := &Octavia{c: c, box: box, root: root, dir: filepath.Join(filepath.Dir(c.Kubeconfig()), "octavia")}
	if err := os.CopyFS(o.dir, files); err != nil {
		return nil, err
	}
	if err := o.routes(ctx, host, ranges); err != nil {
		return nil, err
	}
	logFile := filepath.Join(filepath.Dir(c.Kubeconfig()), "logs", "octavia.log")
	cmd, err := c.Command(ctx, box, "unshare", "-m", "/bin/sh", "-euc", run, "sh", root, o.dir, ranges[0], logFile)
	if err != nil {
		return nil, err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("starting Octavia: %w: %s", err, out)
	}
	from := c.HTTPClientFrom(box)
	defer from.CloseIdleConnections()
	err = wait.Until(ctx, func(ctx context.Context) error { return answers(ctx, from, endpoint) })
	if err != nil {
		said, _ := os.ReadFile(logFile)
		return nil, fmt.Errorf("Octavia does not answer: %w: %s", err, said[max(0, len(said)-2000):])
	}
	return o, nil
}

// routes lead to the box, datagrams to the host, which is set up as Octavia's machines are. How commands are run
// there is written down for scripts/amphora.py.
func (o *Octavia) routes(ctx context.Context, host string, ranges []string) error {
	if err := o.c.RouteVia(ctx, o.box); err != nil {
		return err
	}
	const amphora = `mkdir -p /run/octavia
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv4/vs/conntrack
nft 'table ip octavia { chain out { type nat hook postrouting priority srcnat; meta l4proto udp masquerade; }; }'`
	commands := [][]string{{host, "/bin/sh", "-euc", amphora},
		{"router", "ip", "route", "replace", "default", "via", o.c.Addrs(host)[0].String(), "table", "77"}}
	for _, r := range ranges {
		commands = append(commands, []string{o.box, "ip", "route", "replace", "local", r, "dev", "lo"},
			[]string{"router", "ip", "rule", "add", "pref", "77", "to", r, "ipproto", "udp", "lookup", "77"})
	}
	for _, command := range commands {
		if _, err := o.c.Exec(ctx, command[0], command[1:]...); err != nil {
			return err
		}
	}
	in, err := o.c.Command(ctx, host)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.dir, "machine"), []byte(strings.Join(in.Args, "\n")), 0o600)
}

// endpoint is where it answers, in its box.
const endpoint = "http://127.0.0.1:9876/"

// run Octavia on a copy of its root file system, in the background.
const run = `
root=$1 dir=$2 addresses=$3 log=$4
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o "lowerdir=$root,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
mount -t proc proc /mnt/root/proc
cp "$dir"/scripts/*.py "$dir"/machine /mnt/root/srv
setsid chroot /mnt/root /bin/bash -euc '. /srv/start.sh; database; octavia "$1"' bash "$addresses" >"$log" 2>&1 </dev/null &
echo $! >"$dir/pid"
`

// build its root file system, or find it in the cache.
func build(ctx context.Context, log io.Writer) (string, error) {
	dir, err := os.MkdirTemp("", "external-lb-octavia-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	base, err := fs.Sub(files, "base")
	if err != nil {
		return "", err
	}
	if err := os.CopyFS(dir, base); err != nil {
		return "", err
	}
	var from strings.Builder
	names, err := fs.Glob(base, "*")
	for _, name := range names {
		text, e := fs.ReadFile(base, name)
		err = errors.Join(err, e)
		fmt.Fprintln(&from, name, string(text))
	}
	if err != nil {
		return "", err
	}
	return cluster.Cached("octavia", from.String(), func(path string) error {
		fmt.Fprintln(log, "building Octavia from Debian's packages, once …")
		began := time.Now()
		// in mount namespaces of its own: what it mounts is gone when it ends, whatever happens
		cmd := exec.CommandContext(ctx, "unshare", "-m", "/bin/bash", "-euo", "pipefail", "root.sh", path)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building Octavia: %w: %s", err, out[max(0, len(out)-4000):])
		}
		fmt.Fprintf(log, "built it in %s\n", time.Since(began).Round(time.Second))
		return nil
	})
}

// API is that of Octavia for a project, and for an administrator of it.
func (o *Octavia) API(project string) *gophercloud.ServiceClient {
	api := openstack.WithoutCredentials(endpoint, project)
	api.MoreHeaders["X-Roles"] = "load-balancer_admin"
	api.HTTPClient = *o.c.HTTPClientFrom(o.box)
	return api
}

// flavor makes one of load balancers, and returns its ID.
func (o *Octavia) flavor(ctx context.Context) (string, error) {
	name := "of one machine" // they are unique
	pages, err := flavors.List(o.API(Project), flavors.ListOpts{}).AllPages(ctx)
	if err != nil {
		return "", err
	}
	all, err := flavors.ExtractFlavors(pages)
	if err != nil {
		return "", err
	}
	if len(all) > 0 {
		return all[0].ID, nil
	}
	profile, err := flavorprofiles.Create(ctx, o.API(Project), flavorprofiles.CreateOpts{Name: name, ProviderName: "octavia", FlavorData: `{"loadbalancer_topology": "SINGLE"}`}).Extract()
	if err != nil {
		return "", err
	}
	flavor, err := flavors.Create(ctx, o.API(Project), flavors.CreateOpts{Name: name, FlavorProfileId: profile.ID, Enabled: true}).Extract()
	if err != nil {
		return "", err
	}
	return flavor.ID, nil
}

// Names are the namespace/name of each Service that has a load balancer.
func (o *Octavia) Names(ctx context.Context) (names []string, err error) {
	all, err := o.tagged(ctx, loadbalancers.ListOpts{})
	for i := range all {
		for _, tag := range all[i].Tags {
			if name, ok := strings.CutPrefix(tag, nameTag); ok {
				names = append(names, name)
			}
		}
	}
	return names, err
}

// Configuration is what the HAProxy of a Service has, by the Service's UID.
func (o *Octavia) Configuration(ctx context.Context, uid string) (string, error) {
	lb, err := o.of(ctx, uid)
	if err != nil {
		return "", err
	}
	return o.inside(ctx, `cat "/var/lib/octavia/$1/haproxy.cfg"`, lb.ID)
}

// inside runs a script in its root file system.
func (o *Octavia) inside(ctx context.Context, script, arg string) (string, error) {
	const enter = `exec chroot "/proc/$(cat "$1")/root" /bin/sh -euc "$2" sh "$3"`
	return o.c.Exec(ctx, o.box, "/bin/sh", "-euc", enter, "sh", filepath.Join(o.dir, "pid"), script, arg)
}

// of a Service, by its UID, the load balancer.
func (o *Octavia) of(ctx context.Context, uid string) (*loadbalancers.LoadBalancer, error) {
	all, err := o.tagged(ctx, loadbalancers.ListOpts{Tags: []string{serviceTag + uid}})
	if err == nil && len(all) != 1 {
		err = fmt.Errorf("%d load balancers are of the Service %s", len(all), uid)
	}
	if err != nil {
		return nil, err
	}
	return &all[0], nil
}

func (o *Octavia) tagged(ctx context.Context, with loadbalancers.ListOpts) ([]loadbalancers.LoadBalancer, error) {
	pages, err := loadbalancers.List(o.API(Project), with).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	return loadbalancers.ExtractLoadBalancers(pages)
}

// Look is a shell command for its box that runs scripts/look.py, about a project.
func (o *Octavia) Look(project, what string) string {
	return "env PROJECT=" + project + " chroot " + o.root + " python3 - " + what + " <" + filepath.Join(o.dir, "scripts", "look.py")
}

func answers(ctx context.Context, from *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := from.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("status %s", response.Status)
	}
	return nil
}
