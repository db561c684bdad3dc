package host

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/test/wait"
)

// webFile is the file for the http block of a Service.
func webFile(t testing.TB, name, text string, at netip.AddrPort) fileset.File {
	t.Helper()
	f, err := fileset.NewFragment("http/"+name+".conf", []byte(text), []fileset.Socket{{Network: "tcp", Address: at}})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// web closes every connection: that is all that a test needs to hear.
func web(t testing.TB, name string, at netip.AddrPort) fileset.File {
	t.Helper()
	return webFile(t, name, fmt.Sprintf("server { listen %s; return 444; }\n", at), at)
}

// What nginx refuses of a Service takes the rest of that Service along, and nothing else.
func TestFilesOfOneServiceGoTogether(t *testing.T) {
	b := newBox(t)
	stream, http, other := local(t), local(t), local(t)
	for _, bad := range []fileset.File{
		webFile(t, "ns.web.uid", "server { lissen 1; }\n", http),
		webFile(t, "ns.web.uid", "upstream u { server nohost.invalid:80; }\n", http),
	} {
		out := b.apply(set(t, service(t, "ns.web.uid", "web", stream), bad, service(t, "ns.other.uid", "other", other), web(t, "ns.last.uid", http)))
		if len(out.Refused) != 2 {
			t.Errorf("refused: %+v", out.Refused)
		}
		b.says(stream, "")
		b.says(other, "other")
	}
	b.apply(set(t, service(t, "ns.web.uid", "web", stream), web(t, "ns.web.uid", http)))
	b.says(stream, "web")
}

// The stream block answers for what nginx runs. What an http block lacks is found all the
// same, costs nobody else anything, and is told.
func TestHTTPThatNginxDoesNotRead(t *testing.T) {
	b := newBox(t)
	stream, http := local(t), local(t)
	all := set(t, service(t, "ns.other.uid", "other", stream), web(t, "ns.web.uid", http))
	refused := func(out outcome) {
		t.Helper()
		if len(out.Refused) != 1 || !strings.Contains(out.Refused[0].Reason, "its http block must include") {
			t.Fatalf("refused: %+v", out.Refused)
		}
		b.says(stream, "other")
	}
	b.write("http.conf", nil)
	refused(b.apply(all))
	if err := os.Remove(b.in("http.conf")); err != nil { // as on a machine that was prepared before there was such a file
		t.Fatal(err)
	}
	out := b.apply(all)
	if refused(out); out.Reloaded {
		t.Error("nginx was reloaded for what it would not read")
	}
	b.write("http.conf", b.nginx().HTTPIncludeText())
	if out := b.apply(all); len(out.Refused) > 0 {
		t.Fatalf("refused: %+v", out.Refused)
	}

	b.write("http.conf", nil) // somebody takes it out
	if err := b.daemon.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	wait.For(t, func(ctx context.Context) error {
		c, err := b.unit.status(ctx)
		if err == nil && (c.proved || !strings.Contains(c.message, "http/ns.web.uid.conf: nginx does not listen here")) {
			err = fmt.Errorf("proved: %t, message: %q", c.proved, c.message)
		}
		return err
	})
}
