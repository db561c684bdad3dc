package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	maxHosts = clientsAt - hostsAt - 1
	maxNodes = 1024
)

// ErrNotRunning is returned by Open when there is no cluster in a directory.
var ErrNotRunning = errors.New("no test cluster is running")

// state is what is known about a cluster, in DIR/state.json. A value is never changed once published.
type state struct {
	ID      string             `json:"id"`
	Options Options            `json:"options"`
	Plan    plan               `json:"plan"`
	Init    process            `json:"init"`
	Bin     string             `json:"bin"`
	Version string             `json:"version"` // of Kubernetes
	Helper  string             `json:"helper"`
	Boxes   map[string]box     `json:"boxes"`
	Pods    map[string]pod     `json:"pods"`
	Daemons map[string]process `json:"daemons"`
}

// box is a namespace on the bridge.
type box struct {
	Kind string  `json:"kind"` // host, node, client or control-plane
	At   int     `json:"at"`   // place in the cluster's subnet
	Init process `json:"init"` // of a host or a virtual machine
	Cut  bool    `json:"cut,omitempty"`
	// Virtual is true for a virtual machine, which has a kernel of its own.
	Virtual bool `json:"virtual,omitempty"`
}

// Cluster is a running test cluster. Its methods may be called from several goroutines.
type Cluster struct {
	dir    string
	cur    atomic.Pointer[state]
	mu     sync.Mutex // held by update
	owner  *os.File   // while it is open the cluster lives; nil in a process that does not own it
	config *rest.Config
	client kubernetes.Interface
}

// Start starts a cluster, and returns when the API server answers, every kube-proxy is healthy and the
// daemons of every host are up. The cluster ends with this process, unless Detach is called.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := checkMachine(o); err != nil {
		return nil, err
	}
	if old, err := Open(o.Dir); err == nil {
		return nil, fmt.Errorf("cluster %s runs in %s already: stop it, or use another directory", old.now().ID, o.Dir)
	}
	if err := Down(ctx, o.Dir); err != nil {
		return nil, err
	}
	c := &Cluster{dir: o.Dir}
	if err := c.start(ctx, o); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, o Options) (err error) {
	s := state{Options: o, Boxes: map[string]box{}, Pods: map[string]pod{}, Daemons: map[string]process{}}
	began := time.Now()
	step := func(what string) {
		fmt.Fprintf(o.Log, "%6.2fs  %s\n", time.Since(began).Seconds(), what)
	}
	id := make([]byte, 3)
	if _, err := rand.Read(id); err != nil {
		return err
	}
	s.ID = hex.EncodeToString(id)
	if !o.NetworkOnly {
		kubernetes, err := releaseOf(o.Kubernetes)
		if err != nil {
			return err
		}
		if s.Bin, err = kubernetes.binaries(ctx, o); err != nil {
			return err
		}
		s.Version = kubernetes.version
	}
	if s.Helper, err = helper(ctx); err != nil {
		return err
	}
	step("programs are built")
	for _, dir := range []string{"", "pki", "logs", "hosts", "etcd", "proxy", "images"} {
		if err := os.MkdirAll(filepath.Join(o.Dir, dir), 0o755); err != nil {
			return err
		}
	}
	if s.Init, err = c.startInit(s.Helper, o.Dir); err != nil {
		return err
	}
	c.cur.Store(&s)
	if err := c.save(&s); err != nil {
		return err
	}
	if err := c.buildRouter(ctx); err != nil {
		return err
	}
	if !o.NetworkOnly {
		if err := c.startControlPlane(ctx); err != nil {
			return err
		}
	}
	if err := c.startAround(ctx, step); err != nil {
		return err
	}
	step("the cluster is up")
	return nil
}

// startAround starts what stands around the control plane, while that gets ready.
func (c *Cluster) startAround(ctx context.Context, step func(string)) error {
	o := c.now().Options
	group, gctx := errgroup.WithContext(ctx)
	if !o.ControlPlaneOnly {
		for i := range o.Hosts {
			name := fmt.Sprintf("lb%d", i+1)
			if _, err := c.reserve(name, "host"); err != nil { // in order, so that addresses follow names
				return err
			}
			group.Go(func() error { return c.buildHost(gctx, name) })
		}
		group.Go(func() error { return c.AddClient(gctx, "client") })
	}
	group.Go(func() error {
		if !o.NetworkOnly {
			if err := c.waitReady(gctx); err != nil {
				return err
			}
			step("the API server is ready: " + c.APIServer())
		}
		if o.ControlPlaneOnly {
			return nil
		}
		return c.startNodes(gctx, step)
	})
	if err := group.Wait(); err != nil || o.ControlPlaneOnly {
		return err
	}
	return c.RouteVia(ctx, c.Hosts()...)
}

func (c *Cluster) startNodes(ctx context.Context, step func(string)) error {
	o, build := c.now().Options, c.buildNode
	if o.NetworkOnly {
		build = func(ctx context.Context, spec NodeSpec, at int) error {
			return c.addBox(ctx, spec.Name, at, forwardSettings...)
		}
	} else if err := c.startControllerManager(ctx); err != nil {
		return err
	}
	nodes, nctx := errgroup.WithContext(ctx)
	for i := range o.Nodes {
		spec := NodeSpec{Name: fmt.Sprintf("node%d", i+1)}
		at, err := c.reserve(spec.Name, "node")
		if err != nil {
			return err
		}
		nodes.Go(func() error { return build(nctx, spec, at) })
	}
	if err := nodes.Wait(); err != nil {
		return err
	}
	step(fmt.Sprintf("%d nodes are ready", o.Nodes))
	return nil
}

func (c *Cluster) startInit(helper, dir string) (process, error) {
	// Other programs make this directory, too; it stays when the cluster goes.
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		return process{}, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return process{}, err
	}
	defer r.Close()
	c.owner = w
	cmd := &Cmd{Cmd: exec.Command(helper, "init", filepath.Join(dir, "hosts"))}
	cmd.Stdin = r
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET}
	return cmd.ready(c.log("init"))
}

// Open returns the cluster that runs in dir, started by another process.
func Open(dir string) (*Cluster, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir}
	s, err := c.load()
	if errors.Is(err, fs.ErrNotExist) || err == nil && !s.Init.alive() {
		return nil, fmt.Errorf("%w in %s", ErrNotRunning, dir)
	}
	if err != nil {
		return nil, err
	}
	c.cur.Store(s)
	if s.Options.NetworkOnly {
		return c, nil
	}
	return c, c.connect()
}

// Detach lets the cluster outlive this process.
func (c *Cluster) Detach() error {
	if c.owner == nil {
		return nil
	}
	if _, err := c.owner.WriteString("detach\n"); err != nil {
		return err
	}
	err := c.owner.Close()
	c.owner = nil
	return err
}

// Stop ends the cluster and removes what it left in its directory.
func (c *Cluster) Stop() error {
	err := Down(context.Background(), c.dir)
	if c.owner != nil {
		c.owner.Close()
		c.owner = nil
	}
	return err
}

// Down ends the cluster in dir, whoever started it and however far that came, and removes its files.
// It is no error if there is none.
func Down(ctx context.Context, dir string) error {
	c := &Cluster{dir: dir}
	s, err := c.load()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s = &state{} // nothing started, or gone already
	case err != nil:
		return err
	default:
		c.cur.Store(s)
		if err := s.Init.kill(unix.SIGKILL); err != nil {
			return err
		}
		// The namespace would take its end of the link with it, but at a time of the kernel's choosing.
		if _, err := os.Stat("/sys/class/net/" + c.linkName()); err == nil {
			if err := ip(ctx, nil, "link del "+c.linkName()); err != nil && exists("/sys/class/net/"+c.linkName()) {
				return err
			}
		}
	}
	for _, name := range []string{"pki", "logs", "hosts", "etcd", "proxy", "images", "kubeconfig", "lock", "state.json"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (c *Cluster) now() *state { return c.cur.Load() }

// update changes the state, which other processes may change too, and publishes it.
func (c *Cluster) update(change func(*state)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	unlock, err := lockFile(filepath.Join(c.dir, "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	s, err := c.load()
	if err != nil {
		return err
	}
	s.Options.Log = c.now().Options.Log
	change(s)
	c.cur.Store(s)
	return c.save(s)
}

func (c *Cluster) load() (*state, error) {
	data, err := os.ReadFile(filepath.Join(c.dir, "state.json"))
	if err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(c.dir, "state.json"), err)
	}
	return &s, nil
}

func (c *Cluster) save(s *state) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(c.dir, "state.json")
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (c *Cluster) linkName() string       { return "elb-" + c.now().ID }
func (c *Cluster) log(name string) string { return filepath.Join(c.dir, "logs", name+".log") }

// names are the boxes of a kind, sorted as people count: lb2 before lb10.
func (c *Cluster) names(kind string) []string {
	boxes := c.now().Boxes
	names := slices.Collect(maps.Keys(boxes))
	names = slices.DeleteFunc(names, func(n string) bool { return boxes[n].Kind != kind })
	slices.SortFunc(names, func(a, b string) int { return boxes[a].At - boxes[b].At })
	return names
}

// Hosts, Nodes and Clients are the names of what stands on the bridge.
func (c *Cluster) Hosts() []string   { return c.names("host") }
func (c *Cluster) Nodes() []string   { return c.names("node") }
func (c *Cluster) Clients() []string { return c.names("client") }

// reserve takes a name and the first free number in the subnet for a box of a kind.
func (c *Cluster) reserve(name, kind string) (at int, err error) {
	first := map[string]int{"host": hostsAt + 1, "client": clientsAt + 1, "node": nodesAt + 1}
	last := map[string]int{"host": hostsAt + maxHosts, "client": nodesAt - 1, "node": nodesAt + maxNodes}
	uerr := c.update(func(s *state) {
		if _, taken := s.Boxes[name]; taken || name == "router" || name == "" || strings.ContainsAny(name, "/. ") {
			err = fmt.Errorf("the name %q is taken, or has a character that names must not have", name)
			return
		}
		used := make(map[int]bool)
		for _, b := range s.Boxes {
			used[b.At] = true
		}
		for at = first[kind]; used[at]; at++ {
		}
		if at > last[kind] {
			err = fmt.Errorf("no room for one more %s", kind)
			return
		}
		s.Boxes[name] = box{Kind: kind, At: at}
	})
	return at, errors.Join(err, uerr)
}
