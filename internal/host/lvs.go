package host

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/external-lb/external-lb/internal/fileset"
)

// Where IPVS is, keepalived also puts the virtual servers into the kernel. What
// keepalived and IPVS cannot do, the kernel's packet filter does by rules that the
// host's end makes: it gives packets to nodePorts this machine's address, so that
// answers come back here, and drops clients that are not allowed.

// virtualServer is one of the files'. One without real servers is not in the
// kernel's table, and refuses everybody.
type virtualServer struct {
	fileset.Socket
	direct      bool
	realServers []netip.AddrPort // sorted, each once
	checkPort   uint16           // at which their nodes are asked; 0: they are not, or at their own
	restricted  bool
	sources     []netip.Prefix
}

var (
	virtualLine = regexp.MustCompile(`^virtual_server (\S+) (\d+) \{$`)
	realLine    = regexp.MustCompile(`^\s*real_server (\S+) (\d+) \{$`)
	allowLine   = regexp.MustCompile(`^# allow (TCP|UDP|SCTP) (\S+)((?: \S+)*)$`)
)

// parseVirtualServers reads what a file makes keepalived carry.
func parseVirtualServers(data []byte) ([]virtualServer, error) {
	var all []virtualServer
	allowed := map[fileset.Socket][]netip.Prefix{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, "\n")
		if m := allowLine.FindStringSubmatch(line); m != nil {
			at, err := netip.ParseAddrPort(m[2])
			if err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
			key := fileset.Socket{Network: strings.ToLower(m[1]), Address: at}
			if allowed[key] == nil {
				allowed[key] = []netip.Prefix{} // keepalived reads 1,023 bytes of a line, so there may be several
			}
			for _, word := range strings.Fields(m[3]) {
				prefix, err := netip.ParsePrefix(word)
				if err != nil || prefix.Addr().Is4() != at.Addr().Is4() || prefix != prefix.Masked() {
					return nil, fmt.Errorf("%q: %q is not a prefix of the address's family", line, word)
				}
				allowed[key] = append(allowed[key], prefix)
			}
			continue
		}
		if m := virtualLine.FindStringSubmatch(line); m != nil {
			at, err := addressAndPort(m)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
			all = append(all, virtualServer{Socket: fileset.Socket{Address: at}})
			continue
		}
		word, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if len(all) == 0 {
			continue
		}
		v := &all[len(all)-1]
		if m := realLine.FindStringSubmatch(line); m != nil {
			at, err := addressAndPort(m)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
			v.realServers = append(v.realServers, at)
			continue
		}
		switch word {
		case "protocol":
			v.Network = strings.ToLower(value)
		case "lvs_method":
			v.direct = value == "DR"
		case "connect_port":
			port, err := strconv.ParseUint(value, 10, 16)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
			v.checkPort = uint16(port)
		}
	}
	for i := range all {
		all[i].realServers = sortedOnce(all[i].realServers)
		all[i].sources, all[i].restricted = allowed[all[i].Socket] // wherever the remarks are
	}
	for at, sources := range allowed {
		if !slices.ContainsFunc(all, func(v virtualServer) bool { return v.Socket == at }) {
			all = append(all, virtualServer{Socket: at, restricted: true, sources: sources})
		}
	}
	return all, nil
}

// addressAndPort reads the two words that a line names.
func addressAndPort(m []string) (netip.AddrPort, error) {
	address, err := netip.ParseAddr(m[1])
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := strconv.ParseUint(m[2], 10, 16)
	return netip.AddrPortFrom(address, uint16(port)), err
}

func sortedOnce(all []netip.AddrPort) []netip.AddrPort {
	slices.SortFunc(all, netip.AddrPort.Compare)
	return slices.Compact(all)
}

// virtualServers of a link of the store, by what they listen on. They are only read.
func (k *keepalived) virtualServers(link string) (map[fileset.Socket]virtualServer, error) {
	gen, err := os.Readlink(filepath.Join(k.dir, link))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// By its content: a generation that was rolled back leaves its name to the next.
	own, _ := os.ReadFile(filepath.Join(k.dir, gen, k.ownFile()))
	digest, known := k.announced(own)
	k.mu.Lock()
	defer k.mu.Unlock()
	if all, ok := k.seen[digest]; known && ok {
		return all, nil
	}
	all, err := readVirtualServers(filepath.Join(k.dir, gen))
	if err == nil && known {
		// Two are enough to compare what is live with what was.
		if len(k.seen) > 2 {
			clear(k.seen)
		}
		k.seen[digest] = all
	}
	return all, err
}

func readVirtualServers(dir string) (map[fileset.Socket]virtualServer, error) {
	paths, err := filepath.Glob(filepath.Join(dir, servicesPrefix, "*.conf"))
	if err != nil {
		return nil, err
	}
	all := map[fileset.Socket]virtualServer{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // swapped meanwhile
		}
		if err != nil {
			return nil, err
		}
		some, err := parseVirtualServers(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		for _, v := range some {
			all[v.Socket] = v
		}
	}
	return all, nil
}

// packetRules are the rules for virtual servers, as nft reads them. The table is
// replaced as a whole. What comes to the chain "missed", IPVS has not taken, since
// keepalived is about to tell it: refused, the kernel does not remember the
// connection, and a client that goes on asking from the same port is not kept from
// the rule for answers, which counts for the first packet only.
func packetRules(all map[fileset.Socket]virtualServer) string {
	elements := map[string][]string{}
	add := func(set string, v virtualServer, more ...string) {
		if v.Address.Addr().Is4() {
			set += "4"
		} else {
			set += "6"
		}
		elements[set] = append(elements[set], strings.Join(append([]string{v.Address.Addr().String()}, more...), " . "))
	}
	for _, v := range all {
		port := strconv.Itoa(int(v.Address.Port()))
		if len(v.realServers) > 0 {
			add("carried", v, v.Network, port)
			if !v.direct {
				add("nat", v)
			}
		}
		if v.restricted {
			add("restricted", v, v.Network, port)
		}
		for _, source := range outermost(v.sources) {
			add("allowed", v, v.Network, port, source.String())
		}
	}
	var out strings.Builder
	out.WriteString("# Made by external-lb. Changes are overwritten.\ntable inet external_lb {}\ndelete table inet external_lb\ntable inet external_lb {\n")
	for _, family := range []struct{ digit, kind string }{{"4", "ipv4_addr"}, {"6", "ipv6_addr"}} {
		for _, set := range []struct{ name, kind string }{
			{"nat", family.kind},
			{"carried", family.kind + " . inet_proto . inet_service"},
			{"restricted", family.kind + " . inet_proto . inet_service"},
			{"allowed", family.kind + " . inet_proto . inet_service . " + family.kind + "\n        flags interval"},
		} {
			fmt.Fprintf(&out, "    set %s%s {\n        type %s\n", set.name, family.digit, set.kind)
			list := elements[set.name+family.digit]
			slices.Sort(list)
			if list = slices.Compact(list); len(list) > 0 {
				fmt.Fprintf(&out, "        elements = { %s }\n", strings.Join(list, ", "))
			}
			out.WriteString("    }\n")
		}
	}
	out.WriteString(`    chain input {
        type filter hook input priority filter; policy accept;
        ip daddr . meta l4proto . th dport . ip saddr @allowed4 accept
        ip6 daddr . meta l4proto . th dport . ip6 saddr @allowed6 accept
        ip daddr . meta l4proto . th dport @restricted4 jump refuse
        ip6 daddr . meta l4proto . th dport @restricted6 jump refuse
    }
    chain missed {
        type filter hook input priority 200; policy accept;
        ip daddr . meta l4proto . th dport @carried4 jump refuse
        ip6 daddr . meta l4proto . th dport @carried6 jump refuse
    }
    chain refuse {
        meta l4proto tcp reject with tcp reset
        reject with icmpx admin-prohibited
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ct original ip daddr @nat4 ip daddr != @nat4 masquerade
        ct original ip6 daddr @nat6 ip6 daddr != @nat6 masquerade
    }
}
`)
	return out.String()
}

// outermost are the prefixes that no other one holds: the packet filter refuses a
// set in which elements overlap.
func outermost(all []netip.Prefix) (kept []netip.Prefix) {
	for _, p := range slices.SortedFunc(slices.Values(all), func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	}) {
		if n := len(kept); n == 0 || !kept[n-1].Contains(p.Addr()) {
			kept = append(kept, p)
		}
	}
	return kept
}

// rulesFile is what nft reads, here and when keepalived starts.
const rulesFile = "rules.nft"

// load loads the rules for what is live, and until it is proved also those for
// what was live before.
func (k *keepalived) load(ctx context.Context, live, before map[fileset.Socket]virtualServer) error {
	all := map[fileset.Socket]virtualServer{}
	for _, set := range []map[fileset.Socket]virtualServer{before, live} {
		for at, v := range set {
			all[at] = v
		}
	}
	path, text := filepath.Join(k.dir, rulesFile), []byte(packetRules(all))
	if have, err := os.ReadFile(path); err != nil || !bytes.Equal(have, text) {
		if err := replaceFile(path, text, 0o644); err != nil {
			return err
		}
	}
	words, err := verdict(ctx, k.runner, k.Rules, "nftables", oneLine)
	if err == nil && words != "" {
		err = failed("the packet filter refuses its rules: %s", words)
	}
	return err
}

// restore loads the rules for what is live once more: somebody may have flushed them,
// as `systemctl reload nftables` does with Debian's file, or the machine went down
// before they were loaded.
func (k *keepalived) restore(ctx context.Context) error {
	if !k.lvs {
		return nil
	}
	live, err := k.virtualServers(liveLink)
	if err != nil {
		return err
	}
	return k.load(ctx, live, nil)
}

// gone reports whether something of what was there before is there no longer.
func gone(before, now map[fileset.Socket]virtualServer) bool {
	for at := range before {
		if _, there := now[at]; !there {
			return true
		}
	}
	return false
}

// worry says when the kernel does not carry what keepalived has given it.
func (k *keepalived) worry(ctx context.Context) string {
	if !k.lvs {
		return ""
	}
	want, err := k.virtualServers(liveLink)
	if err != nil {
		return err.Error()
	}
	have, err := ipvsCarries()
	if err != nil {
		return noIPVS
	}
	if lacks := compareIPVS(want, nil, have); lacks != "" {
		return lacks + ": somebody may have changed the table; systemctl restart keepalived"
	}
	if words := allClosed(want, have); words != "" {
		return words
	}
	if words := crowded(trackedConnections, mostConnections); words != "" {
		return words
	}
	real := 0
	for _, v := range want {
		real += len(v.realServers)
	}
	version, err := k.version(ctx)
	if err == nil && real > manyRealServers && older(version, "keepalived", linearReload) {
		return fmt.Sprintf("%s takes long to reload %d real servers: upgrade it to 2.3, or set spec.nodes.maxPerService of the Balancer", version, real)
	}
	return ""
}

// linearReload is the first version whose reload takes time in proportion; before,
// so many real servers take about a second, and ten times as many a hundred.
var linearReload = [3]int{2, 3, 0}

const manyRealServers = 3000

// lvsLine is every line that a delivered file for IPVS may have.
var lvsLine = regexp.MustCompile(`^\s*(?:` + strings.Join([]string{
	`#[^\x00-\x1f\x7f]*`, `\}`, ``,
	`virtual_server [0-9a-f.:]{2,45} \d{1,5} \{`, `protocol (?:TCP|UDP|SCTP)`, `lvs_method (?:NAT|DR)`,
	`lvs_sched (?:rr|wrr|lc|wlc|sh|dh|sed|nq|mh)`, `mh-fallback`, `persistence_timeout \d{1,7}`,
	`delay_loop \d{1,5}(?:\.\d{1,6})?`, `real_server [0-9a-f.:]{2,45} \d{1,5} \{`, `weight \d{1,5}`, `uthreshold \d{1,9}`,
	`inhibit_on_failure`, `HTTP_GET \{`, `TCP_CHECK \{`, `connect_port \d{1,5}`, `connect_timeout \d{1,5}`, `retry \d{1,3}`,
	`delay_before_retry \d{1,5}(?:\.\d{1,6})?`, `url \{`, `path /[-A-Za-z0-9._~/%]{0,255}`, `status_code \d{3}(?:-\d{3})?`,
}, "|") + `)$`)

// blame finds the fragments that keepalived's lines are about.
func (k *keepalived) blame(s suspects, words string) map[string]string {
	culprits := map[string]string{}
	for _, m := range complaint.FindAllStringSubmatch(words, -1) {
		path, ok := s.inSet(m[1])
		if !ok {
			path = m[1]
		}
		if e, known := s.index[path]; known && e.Fragment {
			culprits[path] = cmp.Or(culprits[path], m[3])
		}
	}
	return culprits
}
