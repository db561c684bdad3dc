package wire

import (
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/external-lb/external-lb/internal/lb"
)

// How long an agent waits for a peer. One that takes longer loses its connection,
// and with it its place.
const (
	helloWait  = 15 * time.Second // for its hello
	arriveWait = 2 * time.Minute  // for a whole delivery
	takeWait   = 2 * time.Minute  // for it to take a whole answer
	idleWait   = 2 * time.Minute  // for a call, where others wait for a place; a controller makes one every half a minute
)

// roomMax is how many bytes of deliveries an agent holds at a time, of all its peers
// together: the largest that there can be, and some small ones beside.
const roomMax = lb.MaxSetBytes + lb.MaxSetBytes/8

// itemCost is what an item or a key costs beside its bytes.
const itemCost = 128

// room is what the peers of an agent share.
type room struct {
	mu    sync.Mutex
	taken int // bytes of deliveries that arrive or are carried
	peers int
}

// enter counts a peer, until it leaves.
func (r *room) enter() (leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.peers++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.peers--
	}
}

// full reports whether there is no place for another peer.
func (r *room) full() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.peers >= maxConns
}

// idle ends a connection on which nothing is asked, once somebody may need its place.
type idle struct {
	room  *room
	close func()
	mu    sync.Mutex
	calls int // under way
	timer *time.Timer
}

func (i *idle) start() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.timer = time.AfterFunc(idleWait, i.expire)
}

func (i *idle) expire() {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.calls > 0:
	case i.room.full():
		i.close()
	default:
		i.timer.Reset(idleWait / 4)
	}
}

// stop waits for nothing any more.
func (i *idle) stop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.calls++ // so that the end of none starts the timer again
	i.timer.Stop()
}

// call notes one that begins; it is over when what is returned is called.
func (i *idle) call() (over func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.calls++
	i.timer.Stop()
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.calls--; i.calls == 0 {
			i.timer.Reset(idleWait)
		}
	}
}

// share is what one delivery has of a room.
type share struct {
	of    *room
	taken int
}

// grow takes more of the room.
func (s *share) grow(n int) error {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if s.of.taken+n > roomMax {
		return status.Errorf(codes.ResourceExhausted, "this host has %d bytes of deliveries in work already: try again later", s.of.taken)
	}
	s.of.taken += n
	s.taken += n
	return nil
}

// release gives all of it back.
func (s *share) release() {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.of.taken -= s.taken
	s.taken = 0
}
