package engines_test

import (
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/haproxy"
	"github.com/external-lb/external-lb/internal/engine/nginx"
)

func TestOldVersionsAreNamed(t *testing.T) {
	for version, old := range map[string]bool{
		"nginx/1.18.0": true, "nginx/1.21.3": true, "nginx/1.21.4": false, "nginx/1.22.1": false, "nginx/2.0.0": false, "openresty": false,
		"haproxy/2.4.22": true, "haproxy/2.6.12-1+deb12u4": false, "haproxy/3.3-dev1": false,
	} {
		e := nginx.Engine
		if strings.HasPrefix(version, "haproxy") {
			e = haproxy.Engine
		}
		d := e.Open(engine.Place{Settings: e.Software.Settings()})
		if got := d.TooOld(version); (got != "") != old {
			t.Errorf("%s: %q", version, got)
		}
	}
}
