package cli

import (
	"bufio"
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/wire"
)

// agentOf serves what an agent says, on a socket.
func agentOf(t *testing.T, serve func(net.Conn)) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return socket
}

// stub is an agent that says one thing.
type stub struct {
	host.Host
	status host.Status
}

func (s stub) Status(context.Context) (host.Status, error) { return s.status, nil }

func TestHostStatus_IsWhatTheAgentSays(t *testing.T) {
	says := host.Status{Engine: "toy", Running: true, Cluster: "mine", Epoch: host.Epoch{Term: 7, Seq: 1}, Restarts: 2, Restarted: "toyd was started anew",
		Report: host.Report{Wanted: lb.Manifest{}, Live: lb.Manifest{}}}
	socket := agentOf(t, func(c net.Conn) { _ = wire.Serve(t.Context(), c, stub{status: says}) })
	got, err := askAgent(t.Context(), socket, "mine")
	if err != nil || got.Agent != host.Version() || got.Epoch.Term != 7 || got.Restarted != says.Restarted {
		t.Errorf("%+v, %v", got, err)
	}
	var out strings.Builder
	if err := printHostStatus(&out, host.Settings{}, got); err != nil || !strings.Contains(out.String(), "the agent, external-lb "+host.Version()) ||
		!strings.Contains(out.String(), says.Restarted) {
		t.Errorf("%v\n%s", err, &out)
	}
	if _, err := askAgent(t.Context(), socket, "another"); err == nil || !strings.HasPrefix(err.Error(), "the agent says no: ") {
		t.Errorf("of another cluster's machine it says %v", err)
	}
}

func TestHostStatus_SaysWhyNoAgentDoes(t *testing.T) {
	hello := func(line string) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = c.Write([]byte(line))
			_, _ = bufio.NewReader(c).ReadString('\n')
			c.Close()
		}
	}
	for name, test := range map[string]struct {
		socket, want string
	}{
		"none":            {filepath.Join(t.TempDir(), "none.sock"), "the agent does not run, so nothing new is taken"},
		"another version": {agentOf(t, hello("external-lb-host 99 v9.9.9 x\n")), "the agent that runs is external-lb v9.9.9"},
		"another program": {agentOf(t, hello("SSH-2.0\n")), "systemctl restart external-lb-agent"},
		"one that ends":   {agentOf(t, hello("")), "the agent does not answer"},
	} {
		if _, err := askAgent(t.Context(), test.socket, ""); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	var out strings.Builder
	if err := printHostStatus(&out, host.Settings{}, hostStatus{}); err != nil || !strings.Contains(out.String(), "from files") {
		t.Errorf("%v\n%s", err, &out)
	}
}
