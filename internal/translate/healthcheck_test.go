package translate

import (
	"strings"
	"testing"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
)

func TestHostsAndStatusesOfHealthChecksAreRead(t *testing.T) {
	for text, want := range map[string]lb.Status{
		"204": {From: 204, To: 204}, "200-299": {From: 200, To: 299}, "100-599": {From: 100, To: 599},
		"": {}, "0": {}, "99": {}, "600": {}, "200-": {}, "-200": {}, "299-200": {}, "200 204": {}, "200-299-399": {}, "+200": {}, "66336": {},
	} {
		var got lb.Status
		if err := status(&got, text); (err != nil) != (want == lb.Status{}) || got != want {
			t.Errorf("%q is %v: %v", text, got, err)
		}
	}
	for text, good := range map[string]bool{"web.example": true, "a": true, "a b": false, "a;}": false, "a\n": false, "-a": false, "WEB": false} {
		var got string
		if err := host(&got, text); (err == nil) != good || good && got != text {
			t.Errorf("%q is %q: %v", text, got, err)
		}
	}
}

func TestWhatTCPChecksSayIsRead(t *testing.T) {
	for _, tc := range []struct {
		in           v1alpha1.TCPHealthCheck
		send, expect string
		good         bool
	}{
		{v1alpha1.TCPHealthCheck{}, "", "", true},
		{v1alpha1.TCPHealthCheck{Send: "PING\r\n", Expect: "+PONG"}, "50494e470d0a", "2b504f4e47", true},
		{v1alpha1.TCPHealthCheck{Send: strings.Repeat("a", 256)}, strings.Repeat("61", 256), "", true},
		{v1alpha1.TCPHealthCheck{Send: strings.Repeat("a", 257)}, "", "", false},
		{v1alpha1.TCPHealthCheck{Expect: strings.Repeat("\u00e4", 129)}, "", "", false}, // two bytes each
	} {
		s := v1alpha1.UpstreamSettings{HealthCheck: &v1alpha1.HealthCheck{TCP: &tc.in}}
		var got lb.HealthCheck
		if err := spoken(&got, tcpCheck(&tc.in)); (err == nil) != tc.good || got.Send != tc.send || got.Expect != tc.expect {
			t.Errorf("%+v gave %+v: %v", tc.in, got, err)
		}
		if err := check(&s); (err == nil) != tc.good {
			t.Errorf("%+v: %v", tc.in, err)
		}
	}
	both := v1alpha1.HealthCheck{TCP: &v1alpha1.TCPHealthCheck{}, HTTP: &v1alpha1.HTTPHealthCheck{}}
	of := v1alpha1.HealthCheck{Type: v1alpha1.HealthCheckAuto, TCP: &v1alpha1.TCPHealthCheck{}}
	for _, h := range []v1alpha1.HealthCheck{both, of} {
		if err := check(&v1alpha1.UpstreamSettings{HealthCheck: &h}); err == nil || !strings.Contains(err.Error(), "healthCheck.tcp is for checks of type TCP") {
			t.Errorf("%+v: %v", h, err)
		}
	}
}
