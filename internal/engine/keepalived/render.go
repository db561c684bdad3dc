package keepalived

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/templates"
)

// Prefix begins the paths of what keepalived reads, beside the files of an engine.
const Prefix = "keepalived/"

// mainPath is the path of the file that includes the others.
const mainPath = Prefix + "main.conf"

// addressesPrefix begins the paths of those that bring an address to the active host.
const addressesPrefix = Prefix + "addresses/"

func addressPath(a netip.Addr) string {
	return addressesPrefix + "ip-" + strings.ReplaceAll(a.String(), ":", "-") + ".conf"
}

// broughtBy reads a path back.
func broughtBy(path string) (netip.Addr, bool) {
	name := strings.TrimSuffix(strings.TrimPrefix(path, addressesPrefix+"ip-"), ".conf")
	a, err := netip.ParseAddr(strings.ReplaceAll(name, "-", ":"))
	return a, err == nil && addressPath(a) == path
}

func addressFile(a netip.Addr) (engine.Printed, error) {
	f, err := fileset.NewFile(addressPath(a), fmt.Appendf(nil, "%s/%d\n", a, a.BitLen()))
	return engine.Printed{File: f, View: a}, err
}

var builtIn = template.Must(template.New("").Option("missingkey=error").ParseFS(templates.Of(name), "*.tmpl"))

// virtualRouter is what the template prints, and what the daemon knows of it. The zero
// value: there is none.
type virtualRouter struct {
	Interface string
	RouterID  uint8
	Priority  uint8
	Every     time.Duration // it says that it is there
	Own       netip.Addr    // of the router itself, which the active host has
	Addresses bool          // there are some
}

// Interval is how often it says that it is there, in seconds.
func (r virtualRouter) Interval() string {
	return strconv.FormatFloat(float64(r.Every/(10*time.Millisecond))/100, 'f', -1, 64) // of seconds, 3.72 would be 3.7199999999999998
}

// filesOf are the file of a virtual router and one for each address that it brings, in
// their order.
func filesOf(v *lb.VRRP, addresses []netip.Addr) (router engine.Printed, each []engine.Printed, err error) {
	if err := v.Check(); err != nil { // the last gate before a file that a daemon runs
		return engine.Printed{}, nil, err
	}
	of := virtualRouter{
		Interface: v.Interface, RouterID: v.RouterID, Priority: v.Priority, Every: v.Interval,
		Own:       netip.AddrFrom4([4]byte{169, 254, 76, v.RouterID}),
		Addresses: len(addresses) > 0,
	}
	var out bytes.Buffer
	if err := builtIn.ExecuteTemplate(&out, "main.conf.tmpl", of); err != nil {
		return engine.Printed{}, nil, err
	}
	for _, a := range addresses {
		file, err := addressFile(a)
		if err != nil {
			return engine.Printed{}, nil, err
		}
		each = append(each, file)
	}
	f, err := fileset.NewFile(mainPath, out.Bytes())
	return engine.Printed{File: f, View: of}, each, err
}
