package cli

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/wire"
)

// The manager asks the agent of its own machine on behalf of its cluster, as it asks others.
func TestManager_AsksItsOwnMachineForItsCluster(t *testing.T) {
	socket := agentOf(t, func(c net.Conn) {
		wire.Serve(t.Context(), c, stub{status: host.Status{Cluster: "another", Engine: "nginx"}})
	})
	conn, err := dialAgent(t.Context(), socket, deliver.Target{Cluster: "ours"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = conn.Status(t.Context())
	if he, told := errors.AsType[*host.Error](err); !told || he.Code != host.CodeOtherCluster {
		t.Errorf("a host of another cluster says %v", err)
	}
}

// An agent that accepts and says nothing is left when nobody wants it any more.
func TestManager_LeavesAnAgentThatSaysNothing(t *testing.T) {
	there := make(chan struct{})
	socket := agentOf(t, func(c net.Conn) {
		close(there)
		_, _ = io.Copy(io.Discard, c)
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-there
		cancel()
	}()
	conn, err := dialAgent(ctx, socket, deliver.Target{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v", conn, err)
	}
}
