package haproxy

import (
	"fmt"
	"testing"
)

// Two checks with one name would make HAProxy refuse the file that all Services share,
// and whoever writes a policy chooses paths: a name must not be found twice by trying.
func TestChecksThatDifferHaveDifferentNames(t *testing.T) {
	names := map[string]string{}
	for i := range 1 << 17 {
		p := checkProfile{IPv4: true, Port: 30099, Path: fmt.Sprintf("/%d", i), Host: "localhost", Expect: "200-399", Interval: "1s", Timeout: "1s", Rise: 2, Fall: 3}
		name := p.name(sharedChecks)
		if other, taken := names[name]; taken {
			t.Fatalf("%s is the name of the checks of %s and %s", name, other, p.Path)
		}
		names[name] = p.Path
	}
}
