package e2e

import (
	"context"
	"fmt"

	"github.com/external-lb/external-lb/test/wait"
)

// What settings do for clients, and to them.

// Packets come to a client that says nothing and is told nothing.
func asksASilentClient(f *field) {
	f.holds("client")
	b := barrier{f, "client", "bar-" + f.slug()}
	f.t.Cleanup(b.lift)
	for _, line := range []string{"add table inet " + b.table, "add chain inet " + b.table + " in { type filter hook input priority 0; }",
		"add rule inet " + b.table + " in ip saddr " + f.host + " tcp sport 80 counter"} {
		b.nft(f.t.Context(), line)
	}
	wait.For(f.t, func(context.Context) error {
		if n := b.tried(); n < 5 {
			return fmt.Errorf("%d packets came to a silent client", n)
		}
		return nil
	})
}
