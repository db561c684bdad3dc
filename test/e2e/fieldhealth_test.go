package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/external-lb/external-lb/test/wait"
)

// What the settings of health checks do: a node fails where something is in the
// way of the port by which it is judged.

func leavesOutANode(port func(*field) int32) func(*field) {
	return func(f *field) {
		f.on(env.Nodes()...)
		failing := f.bar("node2", port(f), reset)
		f.on("node1", "node3")
		failing.lift()
		f.on(env.Nodes()...)
	}
}

// usesNodes wants requests answered by those whose checks pass.
func usesNodes(want ...string) func(*field) {
	return func(f *field) {
		wait.For(f.t, func(ctx context.Context) error {
			var nodes []string
			for range 9 {
				answer, err := f.web(ctx, f.host, 80)
				if err != nil {
					return err
				}
				nodes = append(nodes, answer.Node)
			}
			slices.Sort(nodes)
			if distinct := slices.Compact(nodes); !slices.Equal(distinct, want) {
				return fmt.Errorf("answered by %v, want %v, whose checks pass", distinct, want)
			}
			return nil
		})
	}
}

func goesOnWithANodeThatFails(f *field) {
	f.on(env.Nodes()...)
	f.bar("node2", f.nodePort(), reset)
	if got := f.spread(f.address, 15); failures(got) != 5 {
		f.t.Errorf("answered by %q, want every third connection to fail", got)
	}
}

func failures(nodes []string) (count int) {
	for _, node := range nodes {
		if node == "" {
			count++
		}
	}
	return count
}

// triesAgainLate leaves a node out for as long as is set after a connection to it has failed.
func triesAgainLate(f *field) {
	failing := f.bar("node2", f.nodePort(), reset)
	wait.For(f.t, func(ctx context.Context) error {
		if _, err := f.reach(ctx, f.address); err != nil {
			return err
		}
		if failing.tried() == 0 {
			return errors.New("node2 was not tried")
		}
		return nil
	})
	if away := f.comesBack(failing); away < 6*time.Second {
		f.t.Errorf("node2 was back after %v", away)
	}
}

// checksAsOftenAsTold finds a while in which there are more checks than the interval that is built in can
// make, two seconds, however slow the machine is: at most w/2 + 1 within w seconds.
func checksAsOftenAsTold(f *field) {
	asked := f.bar("node2", f.checkedPort(), "accept")
	defer asked.lift()
	began := time.Now()
	lowest := 0.0 // what a while begins with
	wait.For(f.t, func(context.Context) error {
		before := time.Since(began).Seconds()
		n := float64(asked.tried())
		after := time.Since(began).Seconds()
		lowest = min(lowest, n-before*3/4)
		if ahead := n - after*3/4 - lowest; ahead < 2 {
			return fmt.Errorf("%.0f checks within %.1f s, want one each 500ms", n, after)
		}
		return nil
	})
}

// comesBack lifts a barrier before node2, and says how long it was away after that.
func (f *field) comesBack(failing barrier) time.Duration {
	f.t.Helper()
	failing.lift()
	start := time.Now()
	wait.For(f.t, func(ctx context.Context) error {
		node, err := f.reach(ctx, f.address)
		if err == nil && node != "node2" {
			err = fmt.Errorf("answered by %s, want node2, which is well again", node)
		}
		return err
	})
	return time.Since(start)
}

func comesBackLate(f *field) {
	for {
		workers := f.workers()
		failing := f.bar("node2", f.checkedPort(), reset)
		f.on("node1", "node3")
		away := f.comesBack(failing)
		if away >= 2500*time.Millisecond {
			return
		}
		if slices.Equal(f.workers(), workers) { // else one began, which sends to all nodes for a moment
			f.t.Fatalf("node2 was back after %v", away)
		}
	}
}

// workers of the hosts' HAProxy answer this moment.
func (f *field) workers() (pids []string) {
	f.t.Helper()
	for _, host := range []string{"lb1", "lb2"} {
		for line := range strings.Lines(tellHAProxy(f.t, host, "show info")) {
			if pid, is := strings.CutPrefix(line, "Pid: "); is {
				pids = append(pids, host+" "+pid)
			}
		}
	}
	return pids
}

func countsConnectionsThatFail(f *field) {
	f.bar("node2", f.nodePort(), reset)
	if got := f.spread(f.address, 30); failures(got) != 3 {
		f.t.Errorf("answered by %q, want node2 left out after 3 connections that fail", got)
	}
}

func goesLate(f *field) {
	f.on(env.Nodes()...)
	start := time.Now()
	f.bar("node2", f.checkedPort(), reset)
	f.on("node1", "node3")
	if took := time.Since(start); took < 2500*time.Millisecond {
		f.t.Errorf("left out after %v, want after as many checks as take 3s", took)
	}
}

// Pods want to be asked for a host, and the checks of the other Service name another one.
func asksForAHost(f *field) {
	f.silent(addresses(f.otherwise)[0], 80)
	usesNodes(env.Nodes()...)(f)
}

// Where an answer comes too late for the other Service, all of its nodes fail.
func waitsForAnAnswer(f *field) {
	f.silent(addresses(f.otherwise)[0], 80)
	if got := f.nodesOf(f.host, 80, 6); !slices.Equal(got, env.Nodes()) {
		f.t.Errorf("answered by %v, want every node", got)
	}
}
