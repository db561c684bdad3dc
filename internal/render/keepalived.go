package render

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/templates"
)

// KeepalivedPrefix begins the paths of what keepalived reads, beside the files of
// another engine.
const KeepalivedPrefix = "keepalived/"

// AddressPath is the path of the file that brings an address to the active host.
func AddressPath(a netip.Addr) string {
	return KeepalivedPrefix + "addresses/ip-" + strings.ReplaceAll(a.String(), ":", "-") + suffix
}

func addressFile(a netip.Addr) (fileset.File, error) {
	return fileset.NewFile(AddressPath(a), fmt.Appendf(nil, "%s/%d\n", a, a.BitLen()))
}

var keepalived = template.Must(template.New("").Option("missingkey=error").ParseFS(templates.Engines, "keepalived/*.tmpl"))

// virtualRouter is what the template prints.
type virtualRouter struct {
	Interface string
	RouterID  uint8
	Priority  uint8
	Interval  string     // in seconds
	Own       netip.Addr // of the router itself
	Addresses bool       // there are some
}

// addressFiles are those of all addresses at which something listens.
func (r *Renderer) addressFiles() ([]fileset.File, error) {
	seen := map[netip.Addr]bool{}
	for _, f := range r.fragments {
		for _, l := range f.file.Listens {
			seen[l.Address.Addr()] = true
		}
	}
	var files []fileset.File
	for _, a := range slices.SortedFunc(maps.Keys(seen), netip.Addr.Compare) {
		f, err := addressFile(a)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

var safeInterface = regexp.MustCompile(`^[A-Za-z0-9][-A-Za-z0-9_.]{0,14}$`)

// ForHosts is what each host of a virtual router has: what Render made, and what
// tells it from the others.
func ForHosts(shared *fileset.Set, v *lb.VRRP) (map[string]*fileset.Set, error) {
	if !safeInterface.MatchString(v.Interface) || v.RouterID == 0 {
		return nil, fmt.Errorf("interface %.40q, virtual router ID %d: want a name and a number between 1 and 255", v.Interface, v.RouterID)
	}
	if v.Interval < 10*time.Millisecond || v.Interval > 40*time.Second || v.Interval%(10*time.Millisecond) != 0 {
		return nil, fmt.Errorf("advertisements every %s: want between 10ms and 40s in hundredths of a second", v.Interval)
	}
	all := slices.Collect(shared.All())
	hasAddresses := slices.ContainsFunc(all, func(f fileset.File) bool { return strings.HasPrefix(f.Path, KeepalivedPrefix) })
	sets := make(map[string]*fileset.Set, len(v.Hosts))
	for _, h := range v.Hosts {
		if h.Priority == 0 || h.Priority == 255 {
			return nil, fmt.Errorf("priority %d of %s: want between 1 and 254", h.Priority, h.Name)
		}
		var out bytes.Buffer
		err := keepalived.ExecuteTemplate(&out, "main.conf.tmpl", virtualRouter{
			Interface: v.Interface, RouterID: v.RouterID, Priority: h.Priority,
			Interval:  strconv.FormatFloat(v.Interval.Seconds(), 'f', -1, 64),
			Own:       netip.AddrFrom4([4]byte{169, 254, 76, v.RouterID}),
			Addresses: hasAddresses,
		})
		if err != nil {
			return nil, err
		}
		file, err := fileset.NewFile(KeepalivedPrefix+MainPath, out.Bytes())
		if err != nil {
			return nil, err
		}
		if sets[h.Name], err = fileset.New(append(slices.Clip(all), file)...); err != nil {
			return nil, err
		}
	}
	return sets, nil
}
