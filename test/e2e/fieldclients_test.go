package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/external-lb/external-lb/api/v1alpha1"
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

// accessLog is where a host's daemon logs what it carries.
const accessLog = "/var/log/nginx/access.log"

// What is asked for is logged for the other Service alone.
func logsNothing(f *field) {
	host, err := env.Host("lb1")
	must(f.t, err)
	if engine.name == v1alpha1.EngineHAProxy { // which logs to a socket below its root
		must(f.t, host.Log(f.t.Context(), "/var/lib/haproxy/dev/log", accessLog))
	}
	quiet, loud := "/quiet-"+f.namespace, "/loud-"+f.namespace
	f.answerTo(http.MethodGet, quiet, "")
	other := *f
	other.host = addresses(f.otherwise)[0]
	other.answerTo(http.MethodGet, loud, "")
	wait.For(f.t, func(ctx context.Context) error {
		text, err := host.ReadFile(ctx, accessLog)
		if err == nil && !strings.Contains(string(text), loud) {
			err = errors.New("the other Service's request is not in the log")
		}
		if err == nil && strings.Contains(string(text), quiet) {
			err = wait.GiveUp(errors.New("the request is in the log"))
		}
		return err
	})
}

// What is too long for the Service is not for the other one.
func refusesLongHeaders(f *field) {
	long := http.Header{"Token": {strings.Repeat("x", 3<<10)}}
	if got := f.answerWith(long, http.MethodGet, "/", ""); got.StatusCode != http.StatusBadRequest {
		f.t.Errorf("a long header is answered with status %d", got.StatusCode)
	}
	other := *f
	other.host = addresses(f.otherwise)[0]
	if got := other.answerWith(long, http.MethodGet, "/", ""); got.StatusCode != http.StatusOK {
		f.t.Errorf("where it is not too long it is answered with status %d", got.StatusCode)
	}
}
