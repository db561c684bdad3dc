package controllers

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/test/wait"
)

// takes is a Lease that can be written, or not.
type takes struct {
	resourcelock.Interface
	err    error
	record *resourcelock.LeaderElectionRecord
}

func (l takes) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	return l.record, nil, l.err
}

func (l takes) Create(context.Context, resourcelock.LeaderElectionRecord) error { return l.err }
func (l takes) Update(context.Context, resourcelock.LeaderElectionRecord) error { return l.err }

// A process that waits for the lead is well, and so is one that renews it. One that led,
// and neither renewed nor ended, is not.
func TestLivenessLooksAtTheLease(t *testing.T) {
	ctx := t.Context()
	long := time.Now().Add(-2 * overdue)
	for name, test := range map[string]struct {
		last *time.Time
		do   func(*renewals) error
		well bool
	}{
		"never led":     {nil, nil, true},
		"took the lead": {nil, func(r *renewals) error { return r.Create(ctx, resourcelock.LeaderElectionRecord{}) }, true},
		"renewed":       {&long, func(r *renewals) error { return r.Update(ctx, resourcelock.LeaderElectionRecord{}) }, true},
		"did not renew": {&long, nil, false},
		"tried and could not": {&long, func(r *renewals) error {
			return ignore(takesNothing(r).Update(ctx, resourcelock.LeaderElectionRecord{}))
		}, false},
		"tried to take the lead": {nil, func(r *renewals) error {
			return ignore(takesNothing(r).Create(ctx, resourcelock.LeaderElectionRecord{}))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := &renewals{Interface: takes{}}
			r.last.Store(test.last)
			if test.do != nil {
				if err := test.do(r); err != nil {
					t.Fatal(err)
				}
			}
			if err := r.check(nil); (err == nil) != test.well {
				t.Errorf("%v", err)
			}
		})
	}
}

func takesNothing(r *renewals) *renewals {
	r.Interface = takes{err: errors.New("no API server answers")}
	return r
}

func ignore(error) error { return nil }

// Who was asleep for longer than a leader may be without its Lease reads, and writes
// nothing, until it has renewed it.
func TestWhoLeadsNoMoreWritesNothing(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	sent := func(r *renewals, method string) error {
		req, err := http.NewRequestWithContext(t.Context(), method, server.URL, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := (&http.Client{Transport: r.leading(http.DefaultTransport)}).Do(req)
		if err == nil {
			answer.Body.Close()
		}
		return err
	}
	methods := []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}
	r := &renewals{Interface: takes{}}
	writes := func(when string, want error) {
		t.Helper()
		for _, method := range methods {
			if err := sent(r, method); !errors.Is(err, want) {
				t.Errorf("%s, %s: %v, want %v", when, method, err, want)
			}
		}
		if err := sent(r, http.MethodGet); err != nil {
			t.Errorf("%s, it does not read: %v", when, err)
		}
	}
	writes("who never led", nil)
	r.last.Store(new(time.Now().Add(-renewDeadline)))
	writes("a stopped process", errNotLeading)
	r.last.Store(new(time.Now().Round(0).Add(-renewDeadline))) // the monotonic clock stood still
	writes("a stopped machine", errNotLeading)
	if err := r.Update(t.Context(), resourcelock.LeaderElectionRecord{}); err != nil {
		t.Fatal(err)
	}
	writes("who renewed", nil)
}

// slow is a Lease that is written long before the answer comes.
type slow struct{ resourcelock.Interface }

func (slow) Update(context.Context, resourcelock.LeaderElectionRecord) error {
	time.Sleep(time.Second) // in the clock of a bubble
	return nil
}

func TestARenewalIsAsOldAsItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &renewals{Interface: slow{}}
		if err := r.Update(t.Context(), resourcelock.LeaderElectionRecord{}); err != nil || r.age() != time.Second {
			t.Errorf("%s, %v", r.age(), err)
		}
	})
}

// A Lease that is older than it was is that of a backup. It is not for who is new, and
// neither is one that another process holds, whose clock is another one.
func TestARestoreIsSeenByTheLease(t *testing.T) {
	now := metav1.Now()
	record := func(holder string, transitions int, age time.Duration) resourcelock.LeaderElectionRecord {
		return resourcelock.LeaderElectionRecord{HolderIdentity: holder, LeaderTransitions: transitions, RenewTime: metav1.NewTime(now.Add(-age))}
	}
	for name, test := range map[string]struct {
		seen, read resourcelock.LeaderElectionRecord
		restored   bool
	}{
		"first seen":                {resourcelock.LeaderElectionRecord{}, record("a", 3, time.Hour), false},
		"renewed":                   {record("a", 3, time.Minute), record("a", 3, 0), false},
		"as it was":                 {record("a", 3, 0), record("a", 3, 0), false},
		"as it is stored":           {record("a", 3, 0), record("a", 3, time.Microsecond), false},
		"another holder":            {record("a", 3, 0), record("b", 4, time.Hour), false},
		"given back":                {record("a", 3, 0), record("", 3, time.Hour), false},
		"an older one of the same":  {record("a", 3, 0), record("a", 3, time.Minute), true},
		"of a holder that has gone": {record("b", 4, time.Hour), record("a", 3, 0), true},
	} {
		t.Run(name, func(t *testing.T) {
			for how, sees := range map[string]func(*renewals) error{
				"reads":  func(r *renewals) error { _, _, err := r.Get(t.Context()); return err },
				"writes": func(r *renewals) error { return r.Update(t.Context(), test.seen) },
			} {
				restored := false
				r := &renewals{Interface: takes{record: &test.seen}, restored: func() { restored = true }}
				if err := sees(r); err != nil || restored {
					t.Fatalf("who %s it first: %v, restored %t", how, err, restored)
				}
				r.Interface = takes{record: &test.read}
				if _, _, err := r.Get(t.Context()); errors.Is(err, errRestored) != test.restored || restored != test.restored {
					t.Errorf("who %s it first: %v, restored %t, want %t", how, err, restored, test.restored)
				}
			}
		})
	}
}

// A manager that was started before the cluster was restored from a backup ends, and the
// next one leads.
func TestARestoreEndsTheManager(t *testing.T) {
	w := newWorld(t)
	w.published(w.service("web"))
	wait.For(t, func(ctx context.Context) error {
		lease := &coordinationv1.Lease{}
		if err := kube.Get(ctx, client.ObjectKey{Namespace: metav1.NamespaceDefault, Name: leaseName}, lease); err != nil {
			return err
		}
		lease.Spec.RenewTime.Time = lease.Spec.RenewTime.Add(-time.Hour)
		return kube.Update(ctx, lease)
	})
	wait.For(t, func(context.Context) error {
		select {
		case err := <-w.ends:
			if !errors.Is(err, errRestored) {
				t.Fatal(err)
			}
			return nil
		default:
			return errors.New("the manager goes on")
		}
	})
	w.start()
	w.published(w.service("new"))
}
