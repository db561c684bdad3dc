package deliver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/wire"
)

func TestLocalHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		here := newNetwork(map[string]*machine{"here": m})
		here.cut("here", errors.New("no /etc/external-lb/host.yaml"))
		f := NewFleet(Options{Leader: &leads{term: 1, cluster: "our-uid"}, Local: here})
		defer f.Close()
		target := Target{Balancer: "edge", Host: v1alpha1.Host{Name: "here", Local: &v1alpha1.LocalHost{}}}
		f.Set("edge", []Target{target})
		f.Deliver("edge", map[string]*lb.Set{"here": set("a=1")}, "service")
		synctest.Wait()
		if s := f.States("edge")[0]; s.State != v1alpha1.HostFailed || s.Reason != ReasonLocal {
			t.Errorf("%+v", s)
		}
		here.cut("here", nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if s := f.States("edge")[0]; s.State != v1alpha1.HostInSync || !s.Serves("a", sum("1")) {
			t.Errorf("%+v", s)
		}
		for l := range here.conns {
			if l.cluster != "our-uid" {
				t.Errorf("it is asked for cluster %q", l.cluster)
			}
		}
	})
}

// neverThere is a way to an agent that does not answer.
type neverThere struct{}

func (neverThere) Dial(ctx context.Context, _ Target) (Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// Nobody waits for an agent of this machine that does not answer, when its host is taken out.
func TestALocalHostThatDoesNotAnswerIsTakenOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFleet(Options{Leader: &leads{term: 1}, Local: neverThere{}})
		f.Set("edge", []Target{{Host: v1alpha1.Host{Name: "here", Local: &v1alpha1.LocalHost{}}}})
		synctest.Wait()
		f.Set("edge", nil)
		f.wg.Wait()
		f.Close()
	})
}

// pipes dials machines through the real protocol.
type pipes struct{ machine host.Host }

func (p pipes) Dial(ctx context.Context, t Target) (Conn, error) {
	ours, theirs := net.Pipe()
	go wire.Serve(context.WithoutCancel(ctx), theirs, p.machine)
	c, err := wire.NewClient(ctx, ours)
	if err != nil {
		return nil, err
	}
	c.Cluster = t.Cluster
	return c, nil
}

func TestThroughTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		m.refuses("c", "no such address")
		f := NewFleet(Options{Leader: &leads{term: 1}, Dialer: pipes{m}, Log: quiet(t)})
		f.Set("edge", []Target{{Host: v1alpha1.Host{Name: "lb1", Address: "192.0.2.1"}}})
		for i := range 10 {
			f.Deliver("edge", onLB1(set(fmt.Sprintf("a=%d", i), "b=1", "c=1")), "service")
			synctest.Wait()
			s := f.States("edge")[0]
			if s.State != v1alpha1.HostPartial || !s.Serves("a", sum(fmt.Sprint(i))) || s.MayServe("c") {
				t.Fatalf("%+v", s)
			}
			time.Sleep(time.Minute)
		}
		f.Close()
	})
}

// A change of one item of many, and all of them, to a real sshd.
func BenchmarkSSH(b *testing.B) {
	s := startSSHD(b, forcedServe)
	conn, err := SSH{}.Dial(b.Context(), s.target)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	var items []lb.Item
	for i := range 5000 {
		key := lb.ServiceKey(lb.ID{Namespace: "default", Name: fmt.Sprintf("web-%d", i), UID: "6f1c0a52-1111-4222-8333-944455566677"})
		items = append(items, lb.NewItem(key, bytes.Repeat([]byte("x"), 512)))
	}
	all, none := lb.NewSet(items...), lb.NewSet()
	have, seq := lb.Manifest{}, uint64(0)
	deliver := func(b *testing.B, want *lb.Set) {
		seq++
		out, err := conn.Apply(b.Context(), host.Delivery{
			Epoch: host.Epoch{Seq: seq}, Base: have.Digest(), Change: lb.Diff(have, want), Want: want.Digest(),
		})
		if err != nil {
			b.Fatal(err)
		}
		have = out.Wanted
	}
	b.Run("all of 5000 items and none again", func(b *testing.B) {
		for b.Loop() {
			deliver(b, all)
			deliver(b, none)
		}
	})
	deliver(b, all)
	fewer := lb.NewSet(items[1:]...)
	b.Run("one of 5000 items", func(b *testing.B) {
		for b.Loop() {
			deliver(b, fewer)
			fewer, all = all, fewer
		}
	})
	b.Run("status of 5000 items", func(b *testing.B) {
		for b.Loop() {
			if _, err := conn.Status(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
