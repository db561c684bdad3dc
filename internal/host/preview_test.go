package host

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
)

// What the daemon would not start with never is live, not even for the moment before its
// reload: the power may fail then. Here nginx takes the candidate by itself, and not under
// its owner's settings, which stand where nobody reads them.
func TestS35_WhatTheDaemonWouldNotStartWithIsNeverLive(t *testing.T) {
	b := newBox(t)
	b.stop()
	owners, err := os.ReadFile(b.in("nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	b.write("events.conf", []byte("worker_connections 40;\n"))
	b.write("nginx.conf", []byte(strings.Replace(string(owners), "worker_connections 512;", "include "+b.in("events.conf")+";", 1)))
	b.start()
	at := local(t)
	before := b.apply(set(t, service(t, "web", "one", at)))
	var steps []string
	b.unit.at = func(step string) { steps = append(steps, step) }
	many := []fileset.File{service(t, "web", "one", at)}
	for i := range 60 {
		many = append(many, service(t, fmt.Sprintf("s%02d", i), "more", local(t)))
	}
	if e := b.fails(CodeMachine, b.order(set(t, many...))); !strings.Contains(e.Message, "worker_connections are not enough") {
		t.Error(e)
	}
	if !slices.Contains(steps, "check by itself") || slices.Contains(steps, "seal") {
		t.Errorf("steps: %v", steps)
	}
	b.consistent(before.Live)
	b.says(at, "one")
}

// What passes with all else that the daemon reads is not tested a second time.
func TestADeliveryIsCheckedOnce(t *testing.T) {
	b := newBox(t)
	var checks [][]string
	b.nginx().Runner = scripted{engine.Machine{}, func(argv []string) (string, error, bool) {
		if slices.Contains(argv, "-t") {
			checks = append(checks, argv)
		}
		return "", nil, false
	}}
	at := local(t)
	b.apply(set(t, service(t, "web", "one", at)))
	if len(checks) != 1 || !slices.Contains(checks[0], "preview") {
		t.Errorf("checks: %v", checks)
	}
	b.says(at, "one")
}
