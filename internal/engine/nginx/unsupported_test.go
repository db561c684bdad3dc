package nginx

import (
	"testing"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

func TestUnsupported(t *testing.T) {
	for _, tc := range []struct {
		field     engine.Field
		tcp, udp  bool // supported
		overruled bool
	}{
		{"algorithm=RoundRobin", true, true, true},
		{"algorithm=LeastConnections", true, false, true},
		{"algorithm=Random", true, false, true},
		{"algorithm=SourceHash", true, true, false},
		{"mode=HTTP", true, false, false},
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
		{"tls.secretRef", true, false, false},
		{"algorithm=Best", false, false, false},
		{"", false, false, false},
	} {
		if reason := Engine.Unsupported(tc.field, lb.TCP); (reason == "") != tc.tcp {
			t.Errorf("%s with TCP: %q", tc.field, reason)
		}
		if reason := Engine.Unsupported(tc.field, lb.UDP); (reason == "") != tc.udp {
			t.Errorf("%s with UDP: %q", tc.field, reason)
		}
		if reason := Engine.Overruled(tc.field); (reason != "") != tc.overruled {
			t.Errorf("%s with session affinity: %q", tc.field, reason)
		}
	}
}
