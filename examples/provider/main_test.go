package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/provider/kit"
	"github.com/external-lb/external-lb/provider"
	"github.com/external-lb/external-lb/test/freeport"
)

// prefix of addresses on loopback that no other run of these tests has.
func prefix() string { return fmt.Sprintf("127.%d.%d.", 64+os.Getpid()/256%128, os.Getpid()%256) }

// The example keeps to the contract, with traffic.
func TestTheExamplePassesTheKit(t *testing.T) {
	c := &cloud{addresses: netip.MustParsePrefix(prefix() + "128/25"), all: map[provider.ID]*balancer{}}
	admit := provider.Admit{Nodes: []netip.Prefix{netip.MustParsePrefix(prefix() + "0/25")}}
	s := provider.Server{Cloud: c, Token: "secret", Admit: admit}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	o := kit.Options{
		URL: server.URL, Token: "secret",
		Member: netip.MustParseAddr(prefix() + "1"), Address: netip.MustParseAddr(prefix() + "200"),
		Drift:     func(_ context.Context, id provider.ID, _ provider.LoadBalancer) error { return c.lose(id) },
		Strangers: func(context.Context) (string, error) { return "", nil },
	}
	err := kit.Run(t.Context(), o, func(r kit.Result) {
		t.Logf("%s: %v %s, %+v", r.Name, r.Err, r.Skipped, r.Calls)
		if r.Skipped != "" && !slices.Contains([]string{"affinity", "flavor", "certificate", "datagrams"}, r.Name) { // each takes more lines than it teaches
			t.Errorf("%s was not tried: %s", r.Name, r.Skipped)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// A provider that says what is not so is found by what comes through it.
func TestLiesAreFound(t *testing.T) {
	c := &liar{cloud{addresses: netip.MustParsePrefix(prefix() + "128/25"), all: map[provider.ID]*balancer{}}}
	admit := provider.Admit{Nodes: []netip.Prefix{netip.MustParsePrefix(prefix() + "0/25")}}
	s := provider.Server{Cloud: c, Token: "secret", Admit: admit}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	o := kit.Options{URL: server.URL, Token: "secret", Timeout: 5 * time.Second, Member: netip.MustParseAddr(prefix() + "2")}
	failed := map[string]bool{}
	err := kit.Run(t.Context(), o, func(r kit.Result) { failed[r.Name] = r.Err != nil })
	if err == nil || !failed["sources"] || !failed["change"] || failed["create"] {
		t.Errorf("%v: %v", err, failed)
	}
}

// liar lets everybody in, and stays with the first nodePort.
type liar struct{ cloud }

func (c *liar) Put(ctx context.Context, id provider.ID, want provider.Spec) (provider.Observed, error) {
	real := want
	real.Families = []provider.Family{want.Families[0]}
	real.Families[0].Sources = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	if is, err := c.Get(ctx, id); err == nil {
		real.Listeners = is.Spec.Listeners
	}
	o, err := c.cloud.Put(ctx, id, real)
	o.Spec = want
	return o, err
}

// lose the ports of a load balancer, as if somebody had deleted them in the cloud.
func (c *cloud) lose(id provider.ID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for number, p := range c.all[id].ports {
		p.end()
		delete(c.all[id].ports, number)
	}
	return nil
}

// The page on providers, typed as it is written.
func TestThePageIsTrue(t *testing.T) {
	text, err := os.ReadFile("../../docs/contributing/write-a-provider.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(string(text), -1)
	if len(blocks) != 2 {
		t.Fatalf("the page has %d blocks of commands", len(blocks))
	}
	port := freeport.On(t, "127.0.0.1").Port()
	dir := t.TempDir()
	run := func(script string) *exec.Cmd {
		here := strings.NewReplacer("bin/", dir+"/bin/", ":8480", fmt.Sprintf(":%d", port),
			"127.1.0.0/16", prefix()+"0/25", "127.1.0.", prefix(), "127.2.0.0/24", prefix()+"128/25", "127.2.0.", prefix())
		cmd := exec.CommandContext(t.Context(), "bash", "-ec", here.Replace(script))
		cmd.Dir = filepath.Join("..", "..")
		cmd.Env = append(os.Environ(), "PATH="+dir+"/bin:"+os.Getenv("PATH"))
		cmd.WaitDelay = 10 * time.Second
		return cmd
	}
	if out, err := run("mkdir bin/ && go build -o bin/ .").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	serve := run(strings.Replace(blocks[0][1], "bin/provider", "exec bin/provider", 1)) // so that it ends with the test
	serve.Stderr = os.Stderr
	out, err := serve.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = serve.Process.Kill()
		_ = serve.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(line, "listening on") {
		t.Fatalf("%q, %v", line, err)
	}
	said, err := run(blocks[1][1]).CombinedOutput()
	if t.Logf("%s", said); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"ok  create:", "not tried  drift:"} {
		if !strings.Contains(string(said), want) {
			t.Errorf("it does not say %q", want)
		}
	}
}
