package nginx

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/engine"
)

func TestSettingsHaveDefaults(t *testing.T) {
	got := Settings{ProofTimeout: engine.Duration(time.Minute)}
	got.SetDefaults("/var/lib/external-lb", "/var/lib/external-lb/nginx", true)
	want := Settings{
		Binary:   "/usr/sbin/nginx",
		Check:    []string{"sudo", "-n", "/usr/sbin/nginx", "-t", "-q", "-c", "/etc/external-lb/nginx-check.conf"},
		CheckAll: []string{"sudo", "-n", "/usr/sbin/nginx", "-t", "-q", "-c", "/etc/nginx/nginx.conf"},
		Reload:   []string{"sudo", "-n", "/usr/sbin/nginx", "-s", "reload"},
		Log:      []string{"sudo", "-n", "/usr/bin/tail", "-c", "65536", "/var/log/nginx/error.log"},
		Conf:     "/etc/nginx/nginx.conf", CheckConf: "/etc/external-lb/nginx-check.conf", IncludeConf: "/etc/external-lb/nginx-stream.conf",
		HTTPConf: "/etc/external-lb/nginx-http.conf",
		PIDFile:  "/run/nginx.pid", Proof: "127.0.76.66:776", ProofTimeout: engine.Duration(time.Minute),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if errs := got.Validate(); len(errs) > 0 {
		t.Error(errs)
	}
	var asRoot Settings
	if asRoot.SetDefaults("", "", false); asRoot.Reload[0] != "/usr/sbin/nginx" {
		t.Errorf("%+v", asRoot)
	}
}
