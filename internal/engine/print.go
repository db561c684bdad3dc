package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/lb"
)

// kube-proxy says on this port how a node is.
const (
	KubeProxyPort = 10256
	KubeProxyPath = "/healthz"
)

// ServiceName is unique among all Services: no part has a dot in it.
func ServiceName(id lb.ID) string {
	return strings.Join([]string{id.Namespace, id.Name, id.UID}, ".")
}

// FrontendName is unique among the ports of all Services.
func FrontendName(id lb.ID, address netip.AddrPort, network string) string {
	ip := strings.NewReplacer(".", "-", ":", "-").Replace(address.Addr().String())
	return strings.Join([]string{ServiceName(id), ip, strconv.Itoa(int(address.Port())), network}, ".")
}

// Sources are the ranges of clients, sorted; none where everybody may connect.
func Sources(a lb.Clients) []netip.Prefix {
	if a.Everybody {
		return nil
	}
	return slices.SortedFunc(slices.Values(a.Sources), netip.Prefix.Compare)
}

// Milliseconds prints a duration as 10s or 1500ms, rounded up.
func Milliseconds(d time.Duration) string {
	if d%time.Second == 0 {
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return fmt.Sprintf("%dms", (d+time.Millisecond-1)/time.Millisecond)
}
