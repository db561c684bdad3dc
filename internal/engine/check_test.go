package engine_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

// A host that is sent the name of a cloud's certificate does not open the port without TLS.
func TestCheck_RefusesACloudsCertificate(t *testing.T) {
	f := engine.Frontend{Listener: lb.Listener{Address: netip.MustParseAddr("192.0.2.1"), Port: 443, Protocol: lb.TCP}}
	f.Settings.CloudCertificate = "shop"
	s := &engine.Service{ID: lb.ID{Namespace: "default", Name: "web", UID: "uid"}, Frontends: []engine.Frontend{f}}
	if _, _, err := proxy.CheckService("proxy", s); err == nil || !strings.Contains(err.Error(), "one of a cloud") {
		t.Errorf("it is taken: %v", err)
	}
}
