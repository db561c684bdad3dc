package lb

import (
	"strings"
	"testing"
)

func TestUnsupported(t *testing.T) {
	for _, tc := range []struct {
		field     Field
		tcp, udp  bool // supported
		overruled bool
	}{
		{"algorithm=RoundRobin", true, true, true},
		{"algorithm=LeastConnections", true, false, true},
		{"algorithm=Random", true, false, true},
		{"algorithm=SourceHash", true, true, false},
		{"mode=HTTP", false, false, false},
		{"proxyProtocol.send=V1", true, false, false},
		{"proxyProtocol.send=V2", false, false, false},
		{"proxyProtocol.accept", true, false, false},
		{"timeouts.connect", true, false, false},
		{"timeouts.idle", true, true, false},
		{"healthCheck.type=Auto", true, true, false},
		{"healthCheck.type=HTTP", false, false, false},
		{"healthCheck.interval", true, false, false},
		{"healthCheck.fall", true, false, false},
		{"healthCheck.rise", false, false, false},
		{"maxConnections", true, true, false},
		{"maxConnectionsPerNode", true, true, false},
		{"maxConnectionsPerClient", true, true, false},
		{"retries", true, false, false},
		{"drain", false, false, false},
		{"tls.secretRef", true, false, false},
		{"algorithm=Best", false, false, false},
		{"", false, false, false},
	} {
		if reason := Nginx.Unsupported(tc.field, TCP); (reason == "") != tc.tcp {
			t.Errorf("%s with TCP: %q", tc.field, reason)
		}
		if reason := Nginx.Unsupported(tc.field, UDP); (reason == "") != tc.udp {
			t.Errorf("%s with UDP: %q", tc.field, reason)
		}
		if reason := Nginx.Overruled(tc.field); (reason != "") != tc.overruled {
			t.Errorf("%s with session affinity: %q", tc.field, reason)
		}
	}
}

// Reasons are joined with what they are for, and listed in a table.
func TestReasonsAreOnePlainLine(t *testing.T) {
	for _, s := range Capabilities {
		for _, reasons := range []map[Engine]string{s.Missing, s.UDP, s.Affinity, s.Note} {
			for engine, reason := range reasons {
				if reason == "" || strings.ContainsAny(reason, "\n|") || strings.HasSuffix(reason, ".") {
					t.Errorf("%s on %s: %q", s.Field, engine, reason)
				}
			}
		}
		if !Known(s.Field) {
			t.Errorf("%s is not known", s.Field)
		}
	}
	if Known("algorithm") || Known("") {
		t.Error("known is what is not listed")
	}
}

func TestS13_Carries(t *testing.T) {
	for p, want := range map[Protocol]bool{TCP: true, UDP: true, SCTP: false, "": false, "tcp": false} {
		if got := Nginx.Carries(p); got != want {
			t.Errorf("nginx carries %q: %v", p, got)
		}
	}
	if Engine("").Carries(TCP) {
		t.Error("no engine carries TCP")
	}
}
