package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/external-lb/external-lb/test/wait"
)

// crashDir makes the test binary start a cluster in that directory, say so, and wait to be killed.
const crashDir = "TESTCLUSTER_CRASH_DIR"

func crashingOwner(dir string) {
	_, err := Start(context.Background(), Options{Dir: dir, Nodes: 1, Hosts: 1})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("up")
	select {}
}

// leftovers are the processes, mounts and links that carry a mark of the cluster in dir.
func leftovers(t *testing.T, dir, link string) []string {
	t.Helper()
	var found []string
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range lines {
		if data, _ := os.ReadFile(file); bytes.Contains(data, []byte(dir)) {
			found = append(found, file+": "+string(bytes.ReplaceAll(data, []byte{0}, []byte{' '})))
		}
		if data, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "mounts")); bytes.Contains(data, []byte(dir)) {
			found = append(found, file+": mounts")
		}
	}
	if exists("/sys/class/net/" + link) {
		found = append(found, "link "+link)
	}
	return found
}

func TestTwoClustersSideBySide(t *testing.T) {
	t.Parallel()
	other := New(t, Options{Nodes: 1, Hosts: 1})
	if a, b := shared.now().Plan.slice(), other.now().Plan.slice(); a.Overlaps(b) {
		t.Errorf("two clusters use %s and %s", a, b)
	}
	for _, c := range []*Cluster{shared, other} {
		if err := httpGetVersion(c); err != nil {
			t.Error(err)
		}
	}
	addPod(t, other, PodSpec{Namespace: "default", Name: "web-1"})
	wait.For(t, func(ctx context.Context) error {
		_, err := ask(ctx, other, "client", "http", other.Addrs("default/web-1")[0], 8080)
		return err
	})
	if _, err := Start(t.Context(), other.now().Options); err == nil {
		t.Error("started a second cluster in the same directory")
	}
}

func httpGetVersion(c *Cluster) error {
	got, err := c.Client().Discovery().ServerVersion()
	if err == nil && got.GitVersion != c.now().Version {
		err = fmt.Errorf("version %s", got.GitVersion)
	}
	return err
}

func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cluster")
	c, err := Start(t.Context(), Options{Dir: dir, Nodes: 1, Hosts: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.AddPod(t.Context(), PodSpec{Name: "web-1"}); err != nil {
		t.Fatal(err)
	}
	link := c.linkName()
	if len(leftovers(t, dir, link)) == 0 {
		t.Error("the test finds nothing while the cluster runs")
	}
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	if found := leftovers(t, dir, link); len(found) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(found, "\n"))
	}
	if exists(dir) {
		t.Error("the directory is left behind")
	}
	if err := Down(t.Context(), dir); err != nil {
		t.Errorf("down, once more: %v", err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("open: %v", err)
	}
}

func TestNothingIsLeftBehindByACrash(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cluster")
	owner := exec.CommandContext(t.Context(), os.Args[0])
	owner.Env = append(os.Environ(), crashDir+"="+dir)
	owner.Stderr = os.Stderr
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	if n, err := out.Read(make([]byte, 3)); n != 3 {
		t.Fatalf("the owner did not start its cluster: %v", err)
	}
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Process.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
	wait.For(t, func(context.Context) error {
		if found := leftovers(t, dir, c.linkName()); len(found) > 0 {
			return errors.New(strings.Join(found, "\n"))
		}
		if _, err := Open(dir); !errors.Is(err, ErrNotRunning) { // its first process ends last
			return fmt.Errorf("open: %v", err)
		}
		return nil
	})
	again, err := Start(t.Context(), Options{Dir: dir, ControlPlaneOnly: true})
	if err != nil {
		t.Fatalf("start where a crash happened: %v", err)
	}
	if err := again.Stop(); err != nil {
		t.Fatal(err)
	}
}

func TestDetachedClusterOutlivesItsOwner(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cluster")
	c, err := Start(t.Context(), Options{Dir: dir, ControlPlaneOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Detach(); err != nil {
		t.Fatal(err)
	}
	found, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := httpGetVersion(found); err != nil {
		t.Error(err)
	}
	if err := found.Stop(); err != nil {
		t.Fatal(err)
	}
	if found := leftovers(t, dir, c.linkName()); len(found) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(found, "\n"))
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{Engine: "apache"}, {ProxyMode: "ipvs"}, {Addresses: "dhcp"}, {Nodes: maxNodes + 1}, {Hosts: maxHosts + 1}} {
		if _, err := o.withDefaults(); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

func TestPlanStaysInItsSlice(t *testing.T) {
	t.Parallel()
	for index := range 32 {
		p := plan{Index: index, Dual: true}
		for _, at := range []int{routerAt, hostsAt + maxHosts, nodesAt + 1, nodesAt + maxNodes} {
			if !p.slice().Contains(p.addr4(at)) {
				t.Errorf("slice %d: %s is not in %s", index, p.addr4(at), p.slice())
			}
		}
	}
	if got := fmt.Sprint((plan{Index: 17, Dual: true}).podIPs(300, 9)); got != "[10.241.44.9 fd65:6c62:11:112c::9]" {
		t.Errorf("pod addresses %s", got)
	}
}
