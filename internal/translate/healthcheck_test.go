package translate

import (
	"testing"

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
