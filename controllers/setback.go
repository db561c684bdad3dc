package controllers

import (
	"errors"
	"hash/maphash"
	"maps"
	"regexp"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// What could not be written is tried again after firstSetback, then after twice as
// long, and so on: as late as longestSetback.
const (
	firstSetback   = time.Second
	longestSetback = 30 * time.Second
	calm           = 10 * time.Minute // after this long it is forgotten what was written
)

// errLater says that a Service was not written, that it is told where it should be,
// and that it is tried again by itself.
var errLater = errors.New("not written yet")

// setbacks hold back what could not be written of a Service, or what somebody else
// overwrites again and again. Each Service waits for itself, and holds up neither the
// others nor the hosts.
type setbacks struct {
	seed maphash.Seed
	mu   sync.Mutex
	of   map[part]*setback
	due  time.Duration // until the first that this reconcile did not write is tried again; 0: it wrote all
}

// part of a Service that is written by itself.
type part struct {
	uid    types.UID
	status bool // else its metadata
}

// failing is what fails again and again: it is tried ever more rarely.
type failing struct {
	until time.Time     // when it is tried again
	wait  time.Duration // before that
	fails int           // in a row
	told  telling
}

func (f *failing) fail() {
	f.fails++
	f.hold()
}

func (f *failing) hold() {
	f.wait = min(max(2*f.wait, firstSetback), longestSetback)
	f.until = time.Now().Add(f.wait)
}

type setback struct {
	failing

	last    uint64  // what was written, hashed; 0: nothing was
	repairs int     // how often the same was written again
	rivals  telling // who else writes it
}

func newSetbacks() *setbacks { return &setbacks{of: map[part]*setback{}, seed: maphash.MakeSeed()} }

// begin a reconcile: one runs at a time.
func (s *setbacks) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due = 0
	maps.DeleteFunc(s.of, func(_ part, b *setback) bool { return time.Since(b.until) > calm })
}

// end of a reconcile: when it is to be repeated for what it did not write.
func (s *setbacks) end(result reconcile.Result, err error) (reconcile.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.due > 0 && (result.RequeueAfter == 0 || s.due < result.RequeueAfter) {
		result.RequeueAfter = s.due
	}
	return result, err
}

// waits reports whether a part of a Service is not to be written yet.
func (s *setbacks) waits(p part) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.of[p]
	if b == nil {
		return false
	}
	left := time.Until(b.until)
	if left > 0 {
		s.later(left)
	}
	return left > 0
}

func (s *setbacks) later(wait time.Duration) {
	if s.due == 0 || wait < s.due {
		s.due = wait
	}
}

// failed holds a part of a Service back, and reports whether to tell why: at once what
// the API server refuses, and a failure of its own when it lasts. Of the two parts one is
// told, as long as it fails: mostly it is the same that is wrong with the other.
func (s *setbacks) failed(p part, err error) (tell bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.get(p)
	b.fail()
	s.later(b.wait)
	other := s.of[part{p.uid, !p.status}]
	return (other == nil || other.told.failure == 0) && (neverTaken(err) || b.fails > 2 && apierrors.IsInternalError(err)) &&
		b.told.news(b.fails, err.Error())
}

func (s *setbacks) get(p part) *setback {
	b := s.of[p]
	if b == nil {
		b = &setback{}
		s.of[p] = b
	}
	return b
}

// turned is when a condition did, which differs with each write.
var turned = regexp.MustCompile(`"lastTransitionTime":"[^"]*"`)

func (s *setbacks) hash(data []byte) uint64 {
	return max(1, maphash.Bytes(s.seed, turned.ReplaceAll(data, nil)))
}

// contested reports whether somebody else has overwritten a status: the same is to be
// written as last time.
func (s *setbacks) contested(p part, data []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.of[p]
	return b != nil && p.status && b.last == s.hash(data)
}

// rivals reports whether to tell who has overwritten it.
func (s *setbacks) rivals(p part, who string) (tell bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.get(p)
	return b.rivals.news(b.repairs+1, who)
}

// wrote ends a setback; a status that was written before is held back from now on. The
// record is not: without it the hosts withdraw the Service.
func (s *setbacks) wrote(p part, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.get(p)
	was := b.last
	*b = setback{failing: failing{until: time.Now(), wait: b.wait}, last: s.hash(data), repairs: b.repairs, rivals: b.rivals}
	if p.status && b.last == was {
		b.repairs++
		b.hold()
	} else {
		b.wait = 0 // but who else writes it is no news
	}
}

// forget a Service that was let go.
func (s *setbacks) forget(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.of, part{uid, true})
	delete(s.of, part{uid, false})
}

// backOff bounds how late a reconcile that failed is repeated.
func backOff() controller.Options {
	return controller.Options{
		RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](5*time.Millisecond, longestSetback),
	}
}
