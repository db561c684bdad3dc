package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

// killDaemon ends an engine's daemon at once, as a script on its host.
var killDaemon = map[v1alpha1.Engine]string{
	v1alpha1.EngineNginx:   "pkill -KILL -x nginx; until ! pgrep -x nginx; do sleep 0.05; done",
	v1alpha1.EngineHAProxy: "pkill -KILL -x haproxy; until ! pgrep -x haproxy; do sleep 0.05; done",
	v1alpha1.EngineLVS:     "pkill -KILL -f '^keepalived'; until ! pgrep -f '^keepalived'; do sleep 0.05; done",
}

// take a step, and remember what it begins or ends.
func (w *world) take(ctx context.Context, s step) error {
	if s.kind == calm {
		return w.calm(ctx)
	}
	for begin, end := range endOf {
		switch s.kind {
		case begin:
			w.open[s.about] = append(w.open[s.about], begin)
		case end:
			return w.end(ctx, begin, s.about)
		}
	}
	if a := w.apps[s.about]; a != nil {
		return w.ofUser(ctx, s, a)
	}
	if host, err := w.Host(s.about); err == nil {
		return w.ofHost(ctx, s.kind, host)
	}
	switch s.kind {
	case hostile:
		return w.attack(ctx, s.n)
	case certify:
		return w.certify(ctx, s.n)
	case nodeDown:
		if err := w.NodeDown(ctx, s.about); err != nil {
			return err
		}
		return w.noticed(ctx, s.about, false)
	case outage:
		return w.StopAPIServer()
	case killLead:
		if err := w.Manager.Kill(); err != nil {
			return err
		}
		return w.startManager(ctx)
	case pauseLead:
		if err := w.leads(ctx); err != nil {
			return err
		}
		w.paused = w.Manager
		if err := unix.Kill(w.paused.PID(), unix.SIGSTOP); err != nil {
			return err
		}
		return w.startManager(ctx)
	case backUp:
		return w.backUp(ctx)
	case restore:
		return w.restore(ctx, s.n)
	case contend:
		return w.contend(ctx, s.n)
	case deny:
		return w.deny(ctx, s.n)
	case garble:
		return w.garble(ctx)
	}
	return fmt.Errorf("nothing is known of %q", s.kind)
}

// ofUser changes what a user wants.
func (w *world) ofUser(ctx context.Context, s step, a *app) error {
	switch s.kind {
	case create:
		a.wanted, a.exposed, a.classless, a.changed = true, true, s.n%2 == 0, false
		a.datagrams = s.n%3 == 0 && w.engine != v1alpha1.EngineHAProxy // which carries none
	case expose:
		a.exposed, a.classless = true, s.n%2 == 0
	case withdraw:
		a.exposed = false
	case movePort:
		a.port, a.changed = int32(8000+s.n), true
	case remove:
		a.wanted = false
	case renew:
		svc := &corev1.Service{}
		svc.Namespace, svc.Name = namespace, a.name
		return client.IgnoreNotFound(w.Kube.Delete(ctx, svc))
	case wipe:
		return w.wipe(ctx, a)
	}
	return nil
}

// noticed writes what Kubernetes does some time after a node has gone, or has come back:
// until then its pods are endpoints, and nobody can help those who are sent to them.
func (w *world) noticed(ctx context.Context, node string, ready bool) error {
	errs := []error{w.SetNodeReady(ctx, node, ready)}
	for _, name := range sorted(w.apps) {
		errs = append(errs, w.SetPodReady(ctx, namespace, name+"-"+node, ready))
	}
	return errors.Join(errs...)
}

// wipe takes a Service's status away, as an administrator's mistake would.
func (w *world) wipe(ctx context.Context, a *app) error {
	return wait.Until(ctx, func(ctx context.Context) error {
		svc := &corev1.Service{}
		if err := w.Kube.Get(ctx, client.ObjectKey{Namespace: namespace, Name: a.name}, svc); err != nil {
			return client.IgnoreNotFound(err)
		}
		// The record stays: who takes it away may write what only controllers may.
		svc.Status.LoadBalancer = corev1.LoadBalancerStatus{}
		meta.RemoveStatusCondition(&svc.Status.Conditions, v1alpha1.ConditionServiceProgrammed)
		return client.IgnoreNotFound(w.Kube.Status().Update(ctx, svc))
	})
}

// ofHost does something to a host.
func (w *world) ofHost(ctx context.Context, k kind, h *cluster.Host) error {
	script := ""
	switch k {
	case cut:
		return w.Cut(ctx, h.Name)
	case powerOff:
		return h.PowerOff(ctx)
	case killProxy:
		if _, err := h.Shell(ctx, killDaemon[w.engine]); err != nil {
			return err
		}
		return h.StartEngine(ctx)
	case rewind:
		return w.rewind(ctx, h)
	case intrude:
		return w.intrude(ctx, h.Name)
	case mute: // what it answers does not arrive
		script = "ip route add blackhole " + w.managersAddress()
	case fill:
		script = "cat /dev/zero >/filler || true; head -c 1 /dev/zero >/filler2 2>/dev/null || true"
	case freeze:
		script = "pkill -STOP -f '^/usr/local/bin/external-lb host agent' || true" // it may be starting
	case killAgent:
		script = "pkill -KILL -f '^/usr/local/bin/external-lb host agent' || true"
	case killServe:
		script = "pkill -KILL -f 'external-lb host [s]erve' || true" // there may be none; this is none
	}
	_, err := h.Shell(ctx, script)
	return err
}

// rewind brings back the backup of what the agent keeps, as an administrator would, or
// makes one where there is none. Sockets are nothing to keep: HAProxy makes its own at its
// start alone. The host must find its way to what it had before.
func (w *world) rewind(ctx context.Context, h *cluster.Host) error {
	live := func(ctx context.Context) (string, error) { // but for the name of the generation, which HAProxy's file has in it
		return h.Shell(ctx, "cd /var/lib/external-lb/"+string(w.engine)+"/live && for f in $(find . -type f | sort); do echo $f $(sed 's,/gen/[^/]*/,/gen/,' $f | sha256sum); done")
	}
	before, err := live(ctx)
	if err != nil {
		return err
	}
	_, err = h.Shell(ctx, `
pkill -STOP -f '^/bin/sh /run/external-lb-agent.sh'
pkill -KILL -f '^/usr/local/bin/external-lb host agent' || true
if [ -d /root/backup ]; then
  find /var/lib/external-lb -mindepth 1 ! -type s -delete
  cp -a /root/backup/. /var/lib/external-lb/
  rm -rf /root/backup
else
  cp -a /var/lib/external-lb /root/backup
  find /root/backup -type s -delete
fi
pkill -CONT -f '^/bin/sh /run/external-lb-agent.sh'`)
	if err != nil {
		return err
	}
	return w.inSync(ctx, func(ctx context.Context) error {
		after, err := live(ctx)
		if err == nil && after != before {
			err = fmt.Errorf("%s has\n%s\nwant\n%s", h.Name, after, before)
		}
		return err
	})
}

// managersAddress is where hosts see the manager: beside the router.
func (w *world) managersAddress() string { return w.Addrs("router")[0].Next().String() }

// end what has begun.
func (w *world) end(ctx context.Context, k kind, about string) error {
	w.open[about] = slices.DeleteFunc(w.open[about], func(open kind) bool { return open == k })
	if len(w.open[about]) == 0 {
		delete(w.open, about)
	}
	script := ""
	switch k {
	case cut:
		return w.Heal(ctx, about)
	case nodeDown:
		if err := w.NodeUp(ctx, about); err != nil {
			return err
		}
		return w.noticed(ctx, about, true)
	case outage:
		if err := w.StartAPIServer(ctx); err != nil {
			return err
		}
		return w.keepManager(ctx)
	case pauseLead:
		return w.wake(ctx)
	case contend:
		return w.makePeace(ctx)
	case deny:
		return w.allow(ctx)
	case garble:
		return w.ungarble(ctx)
	case mute:
		script = "ip route del blackhole " + w.managersAddress()
	case fill:
		script = "rm -f /filler /filler2"
	case freeze:
		script = "pkill -CONT -f 'external-lb host agent' || true" // also runuser, which stops with what it started
	}
	h, err := w.Host(about)
	if err != nil {
		return err
	}
	if k == powerOff {
		return h.PowerOn(ctx)
	}
	_, err = h.Shell(ctx, script)
	return err
}

// wake a leader that was stopped, once another leads: it must end by itself.
func (w *world) wake(ctx context.Context) error {
	if err := w.leads(ctx); err != nil {
		return err
	}
	old := w.paused
	w.paused = nil
	if err := unix.Kill(old.PID(), unix.SIGCONT); err != nil {
		return err
	}
	return wait.Until(ctx, func(context.Context) error {
		if alive(old) {
			return errors.New("a leader that was replaced still runs")
		}
		return nil
	})
}
