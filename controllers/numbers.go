package controllers

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// numbersWait is how long the numbers of a status wait for the end of a delivery.
const numbersWait = time.Second

// numbers are what changes with each delivery in the statuses of a Balancer and of its pools: how many Services,
// which digests, how many addresses. They are written when the hosts are at rest, and in a storm once a second.
type numbers struct {
	mu         sync.Mutex
	delivering bool
	since      map[types.UID]time.Time // when what is not written changed
}

func newNumbers() *numbers { return &numbers{since: map[types.UID]time.Time{}} }

// look notes whether a host is at work on a delivery.
func (n *numbers) look(delivering bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delivering = delivering
}

// wait reports whether an object's are to be written later.
func (n *numbers) wait(of types.UID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	since, waits := n.since[of]
	if !n.delivering || waits && time.Since(since) >= numbersWait {
		delete(n.since, of)
		return false
	}
	if !waits {
		n.since[of] = time.Now()
	}
	return true
}

// told notes that an object's status has them.
func (n *numbers) told(of types.UID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.since, of)
}

// left is how long until some are to be written; 0: all are.
func (n *numbers) left() (left time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, since := range n.since {
		left = sooner(left, max(time.Millisecond, numbersWait-time.Since(since)))
	}
	return left
}
