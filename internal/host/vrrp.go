package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// With VRRP, keepalived agrees with the other hosts which of them has the addresses.

// decided waits, too, until the hosts had the time to agree which of them is
// active: a router that is new or changed begins as one that is not.
func (k *keepalived) decided(p proof) proof {
	agreement := 4 * k.router().interval
	p.within += agreement
	ask, until := p.ask, time.Now().Add(agreement)
	p.ask = func(ctx context.Context) (answer, error) {
		if !k.router().active() && time.Now().Before(until) {
			return answer{}, errors.New("the hosts have not agreed yet which of them is active")
		}
		return ask(ctx)
	}
	return p
}

// sameRouter reports whether what goes live has the router that was live before.
func (k *keepalived) sameRouter() bool {
	now, err := os.ReadFile(filepath.Join(k.dir, liveLink, keepalivedMain))
	before, beforeErr := os.ReadFile(filepath.Join(k.dir, backLink, keepalivedMain))
	return err == nil && beforeErr == nil && bytes.Equal(now, before)
}

// router is the virtual router that is live, by its file. The zero value: none.
type router struct {
	device    string
	own       netip.Addr // which the active host has
	interval  time.Duration
	addresses []netip.Addr
}

var (
	ownAddress = regexp.MustCompile(`(?m)^        (169\.254\.76\.\d{1,3})/32$`)
	onDevice   = regexp.MustCompile(`(?m)^    interface (\S+)$`)
	advertInt  = regexp.MustCompile(`(?m)^    advert_int (\S+)$`)
)

func (k *keepalived) router() router {
	live := filepath.Join(k.dir, liveLink)
	main, err := os.ReadFile(filepath.Join(live, keepalivedMain))
	own, device, interval := ownAddress.FindSubmatch(main), onDevice.FindSubmatch(main), advertInt.FindSubmatch(main)
	if err != nil || own == nil || device == nil || interval == nil {
		return router{}
	}
	r := router{device: string(device[1])}
	r.own, _ = netip.ParseAddr(string(own[1])) // of a file that keepalived has taken, as the rest
	r.interval, _ = time.ParseDuration(string(interval[1]) + "s")
	files, _ := filepath.Glob(filepath.Join(live, keepalivedPrefix, "addresses", "*.conf"))
	for _, path := range files {
		text, err := os.ReadFile(path)
		if prefix, parseErr := netip.ParsePrefix(strings.TrimSpace(string(text))); err == nil && parseErr == nil {
			r.addresses = append(r.addresses, prefix.Addr())
		}
	}
	return r
}

// active reports whether this host has the addresses.
func (r router) active() bool {
	have, err := addressesOf(r.device)
	return err == nil && have[r.own]
}

// lacks says which address an active host lacks; "" if none.
func (r router) lacks() string {
	have, err := addressesOf(r.device)
	if err != nil {
		return fmt.Sprintf("the interface %s: %v", r.device, err)
	}
	for _, a := range r.addresses {
		if !have[a] {
			return fmt.Sprintf("this host is the active one and lacks %s on %s", a, r.device)
		}
	}
	return ""
}

func addressesOf(device string) (map[netip.Addr]bool, error) {
	link, err := net.InterfaceByName(device)
	if err != nil {
		return nil, err
	}
	all, err := link.Addrs()
	if err != nil {
		return nil, err
	}
	have := make(map[netip.Addr]bool, len(all))
	for _, a := range all {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			have[prefix.Addr().Unmap()] = true
		}
	}
	return have, nil
}
