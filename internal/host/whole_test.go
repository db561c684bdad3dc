package host

import (
	"net/netip"
	"strings"
	"testing"
)

// A delivery that is whole is refused, in the daemon's words, where else a
// fragment would be left out.
func TestAWholeDeliveryIsTakenAsAWholeOrNotAtAll(t *testing.T) {
	b := newBox(t)
	web, dns := local(t), local(t)
	before := b.apply(set(t, service(t, "web", "one", web)))

	d := b.delivery(set(t, service(t, "web", "two", web), service(t, "dns", "dns", dns), broken(t, "bad")))
	d.Whole = true
	e := b.fails(CodeWhole, d)
	if want := `services/bad.conf: unknown directive "lissen" in services/bad.conf:1`; e.Message != want {
		t.Errorf("message %q, want %q", e.Message, want)
	}
	b.consistent(before.Live)
	b.says(web, "one")
	b.says(dns, "")

	// What was left out before may be left out again, and what a probe does not
	// find says nothing of the files.
	absent := netip.MustParseAddrPort("192.0.2.77:80")
	d = b.delivery(set(t, service(t, "web", "two", web), broken(t, "bad"), service(t, "absent", "x", absent)))
	d.Whole, d.Spared = true, []string{"services/bad.conf"}
	out, err := b.agent.Apply(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(refusedPaths(out), " "); got != "services/absent.conf services/bad.conf" {
		t.Errorf("refused: %s", got)
	}
	b.says(web, "two")
}
