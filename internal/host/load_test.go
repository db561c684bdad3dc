package host

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/fileset"
)

// Clients notice nothing of reloads.
func TestE12_NoConnectionFailsDuringReloads(t *testing.T) {
	b := newBox(t)
	at := local(t)
	steady := service(t, "steady", "steady", at)
	b.apply(set(t, steady))
	var stop atomic.Bool
	var answers, failures atomic.Int64
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for !stop.Load() {
				if hear(at) == "steady" {
					answers.Add(1)
				} else {
					failures.Add(1)
				}
			}
		})
	}
	other := local(t)
	for i := range 20 {
		text := fmt.Sprint("round ", i)
		b.apply(set(t, steady, service(t, "other", text, other)))
		// Nothing but the new configuration answers from here on.
		for range 20 {
			b.says(other, text)
		}
	}
	stop.Store(true)
	clients.Wait()
	if failures.Load() > 0 || answers.Load() < 100 {
		t.Errorf("%d answers, %d failures", answers.Load(), failures.Load())
	}
	t.Logf("%d answers", answers.Load())
}

// many fragments, of which one has a text of its own.
func many(tb testing.TB, n int, text string, port uint16) *fileset.Set {
	files := make([]fileset.File, n)
	for i := range files {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), port)
		files[i] = service(tb, fmt.Sprintf("s%04d", i), "same", at)
	}
	files[n/2] = service(tb, fmt.Sprintf("s%04d", n/2), text, files[n/2].Listens[0].Address)
	return set(tb, files...)
}

func TestOneOfAThousandFragmentsChanges(t *testing.T) {
	b := newBoxIn(t, t.TempDir(), 8192)
	port := local(t).Port()
	start := time.Now()
	b.apply(many(t, 1000, "one", port))
	first := time.Since(start)
	before := map[string]uint64{}
	for p := range b.onDisk() {
		before[p] = inode(t, b.unit.dir+"/live/"+p)
	}
	start = time.Now()
	b.apply(many(t, 1000, "two", port))
	second := time.Since(start)
	written := 0
	for p := range b.onDisk() {
		if inode(t, b.unit.dir+"/live/"+p) != before[p] {
			written++
		}
	}
	if written != 1 {
		t.Errorf("%d files were written", written)
	}
	b.says(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, 500 >> 8, 500 & 255}), port), "two")
	start = time.Now()
	b.status()
	t.Logf("1000 fragments: first %s, one change %s, status %s", first, second, time.Since(start))
}

// onDisk are the files that are live, by path.
func (b *box) onDisk() fileset.Manifest {
	b.Helper()
	s, err := openStore(b.unit.dir)
	if err != nil {
		b.Fatal(err)
	}
	defer s.close()
	all, err := b.unit.liveFiles(s)
	if err != nil {
		b.Fatal(err)
	}
	return all.Files.manifest()
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	return stat(t, path).Sys().(*syscall.Stat_t).Ino
}
