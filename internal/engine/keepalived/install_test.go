package keepalived

import "testing"

// The owner's file gets one line, and keeps all that is theirs. Of several stores of ours,
// keepalived reads one.
func TestTheOwnersFileIncludesOneStore(t *testing.T) {
	k := &Daemon{Dir: "/var/lib/external-lb/lvs"}
	const line = "# external-lb: what is delivered.\ninclude /var/lib/external-lb/lvs/live/keepalived.conf\n"
	for have, want := range map[string]string{
		"": line,
		"global_defs {\n}\ninclude /etc/keepalived/mine.conf": "global_defs {\n}\ninclude /etc/keepalived/mine.conf\n\n" + line,
		"x\n\n" + line: "x\n\n" + line,
		"x\ninclude /var/lib/external-lb/keepalived/live/keepalived.conf\n":           "x\n\n" + line,
		"include /var/lib/external-lb/keepalived/live/keepalived.conf\n" + line + "y": line + "y",
	} {
		if got := k.including(have); got != want {
			t.Errorf("%q becomes %q, want %q", have, got, want)
		}
	}
}
