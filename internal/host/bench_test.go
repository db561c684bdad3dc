package host

import (
	"fmt"
	"testing"
)

// BenchmarkOneDelivery is what the agent does for a change of one Service among many.
func BenchmarkOneDelivery(b *testing.B) {
	bindAnything(b)
	for _, size := range [][2]int{{1000, 100}, {10_000, 100}} {
		b.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(b *testing.B) {
			d := newDeliveries(b, size[0], size[1])
			b.ReportAllocs()
			for b.Loop() {
				d.change()
			}
		})
	}
}
