package controllers

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestNumbersWaitForDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, written := newNumbers(), 0
		n.look(true)
		for range 100 { // each time another status, for 10 seconds
			if !n.wait("edge") {
				written++
			}
			time.Sleep(100 * time.Millisecond)
		}
		if written < 8 || written > 10 {
			t.Errorf("in a storm of 10 s they were written %d times", written)
		}
		n.told("edge")
		if left := n.left(); left != 0 {
			t.Errorf("all is told, and looked at in %v", left)
		}
		n.look(false)
		if n.wait("edge") {
			t.Error("hosts are at rest, and it waits")
		}
		n.look(true)
		n.wait("edge")
		time.Sleep(numbersWait / 4)
		if left := n.left(); left != numbersWait*3/4 {
			t.Errorf("what waits is looked at in %v", left)
		}
		time.Sleep(numbersWait)
		if n.left() == 0 || n.wait("edge") || n.left() != 0 {
			t.Error("what is due waits")
		}
	})
}
