package controllers

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// stored is a Lease in an API server, which gives each write a version.
type stored struct {
	mu      sync.Mutex
	record  *resourcelock.LeaderElectionRecord
	version int
}

// candidate is how one process reads and writes it.
type candidate struct {
	*stored
	identity string
	read     int
}

func (l *candidate) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.record == nil {
		return nil, nil, apierrors.NewNotFound(schema.GroupResource{}, "lease")
	}
	l.read = l.version
	record := *l.record
	return &record, []byte(record.RenewTime.String()), nil
}

func (l *candidate) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.Update(ctx, record)
}

func (l *candidate) Update(_ context.Context, record resourcelock.LeaderElectionRecord) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.read != l.version {
		return apierrors.NewConflict(schema.GroupResource{}, "lease", errors.New("another version"))
	}
	l.record, l.version = &record, l.version+1
	l.read = l.version
	return nil
}

func (l *candidate) RecordEvent(string) {}
func (l *candidate) Identity() string   { return l.identity }
func (l *candidate) Describe() string   { return l.identity }

// stands runs a process that wants the lead, and says whether it has seen a restore.
func (s *stored) stands(t *testing.T, identity string, leads chan<- string) (restored *atomic.Bool) {
	restored = new(atomic.Bool)
	ctx, end := context.WithCancel(t.Context())
	lock := &renewals{Interface: &candidate{stored: s, identity: identity}, restored: func() { restored.Store(true); end() }}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: 2 * time.Second, ReleaseOnCancel: true, Name: "lease",
		Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: func(context.Context) { leads <- identity }, OnStoppedLeading: func() {}},
	})
	if err != nil {
		t.Fatal(err)
	}
	go elector.Run(ctx)
	return restored
}

// A leader that lives through a restore leaves the Lease as it was restored, so that no standby leads with what it
// had read before.
func TestARestoreIsSeenByTheStandby(t *testing.T) {
	for offset := range 10 { // of the restore, between the looks of both
		synctest.Test(t, func(t *testing.T) {
			s, leads := new(stored), make(chan string, 9)
			s.stands(t, "one", leads)
			<-leads
			time.Sleep(time.Second)
			standby := s.stands(t, "two", leads)
			s.mu.Lock()
			backup, version := *s.record, s.version
			s.mu.Unlock()
			time.Sleep(30*time.Second + time.Duration(offset)*200*time.Millisecond)
			s.mu.Lock()
			s.record, s.version = &backup, version
			s.mu.Unlock()
			time.Sleep(30 * time.Second)
			if len(leads) > 0 && !standby.Load() {
				t.Errorf("%s leads, and has not seen the restore %v after a look", <-leads, time.Duration(offset)*200*time.Millisecond)
			}
		})
	}
}
