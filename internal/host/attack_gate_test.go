package host_test

import (
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

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/lb/lbtest"
	"github.com/external-lb/external-lb/internal/render/rendertest"
)

// What a machine does is held against what it may do, which is said here once more: in
// files, lines, items, addresses and sockets.

// May be listened on and sent to; the machine's rules name more, see host.Victims.
var (
	mayListen = prefixes("192.0.2.0/24", "2001:db8::/64")
	mayBeSent = prefixes("10.0.0.0/8", "fd00::/16", "198.51.100.0/24", "192.0.2.0/24")
	mayBeFrom = []string{"192.0.2.10", "2001:db8::10", "[2001:db8::10]", "off"}
)

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func within(all []netip.Prefix, a netip.Addr) bool {
	for _, p := range all {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func listenable(at netip.AddrPort, network string) bool {
	held := network == "tcp" && (at.Port() == 53 && at.Addr().Is4() || at.Port() == 443)
	p := at.Port()
	return within(mayListen, at.Addr()) && (p == 53 || p == 80 || p == 443 || p >= 1000 && p <= 1999 || p == 31000) && !held
}

func sendable(at netip.AddrPort, check bool) bool {
	if pods := netip.MustParsePrefix("10.244.0.0/16"); pods.Contains(at.Addr()) || netip.MustParsePrefix("fd44::/16").Contains(at.Addr()) {
		return true // on every port
	}
	return within(mayBeSent, at.Addr()) && (at.Port() >= 30000 && at.Port() <= 32767 || check && at.Port() == 10256)
}

// traffic is what files say of addresses.
type traffic struct {
	own     map[netip.Addr]bool       // the machine's
	listens map[netip.AddrPort]string // network, as far as the file says it
	sends   map[netip.AddrPort]bool   // only to ask how a node is
	direct  map[netip.AddrPort]bool   // to nodes, at the port that is listened on
	brings  []netip.Addr
}

// wrong is what is not admitted.
func (t *traffic) wrong() error {
	var errs []error
	for at, network := range t.listens {
		if !listenable(at, network) {
			errs = append(errs, fmt.Errorf("%s/%s is listened on", at, network))
		}
	}
	for at, check := range t.sends {
		if _, ours := t.listens[at]; ours || t.own[at.Addr()] || !sendable(at, check) {
			errs = append(errs, fmt.Errorf("%s is sent to", at))
		}
	}
	for at := range t.direct {
		if t.own[at.Addr()] || !sendable(netip.AddrPortFrom(at.Addr(), 30000), false) {
			errs = append(errs, fmt.Errorf("%s is sent to as it came", at))
		}
	}
	for _, a := range t.brings {
		if !within(mayListen, a) || t.own[a] {
			errs = append(errs, fmt.Errorf("%s is brought", a))
		}
	}
	return errors.Join(errs...)
}

// read what a file says, in the words of its engine.
func (t *traffic) read(software string, data []byte) error {
	var errs []error
	section := ""
	var at netip.AddrPort // of what is sent to
	method := ""
	port := func(address, port string) netip.AddrPort {
		p, err := netip.ParseAddrPort(strings.Trim(address, "[]") + ":" + port)
		if strings.Contains(address, ":") {
			p, err = netip.ParseAddrPort("[" + strings.Trim(address, "[]") + "]:" + port)
		}
		errs = append(errs, err)
		return p
	}
	both := func(text string) netip.AddrPort {
		p, err := netip.ParseAddrPort(text)
		errs = append(errs, err)
		return p
	}
	for line := range strings.Lines(string(data)) {
		w := strings.Fields(strings.ReplaceAll(line, ";", " "))
		if len(w) < 2 {
			if p, err := netip.ParsePrefix(strings.TrimSpace(line)); err == nil && p.Addr() != netip.AddrFrom4([4]byte{169, 254, 76, 51}) {
				t.brings = append(t.brings, p.Addr())
			}
			continue
		}
		indented := strings.HasPrefix(line, " ")
		switch word := software + " " + w[0]; {
		case !indented && software == "haproxy":
			section = w[1]
		case word == "nginx listen":
			t.listens[both(w[1])] = map[bool]string{true: "udp", false: "tcp"}[len(w) > 2 && w[2] == "udp"]
		case word == "nginx server" && w[1] != "{":
			t.sends[both(w[1])] = false
		case word == "haproxy bind":
			t.listens[both(w[1])] = "tcp"
		case word == "haproxy server" && !strings.HasPrefix(w[1], "spare_"):
			at = both(w[2])
			t.sends[at] = t.sends[at] || strings.Contains(section, ".nodes.")
		case word == "lvs virtual_server":
			at = port(w[1], w[2])
			t.listens[at], method = "", ""
		case word == "lvs protocol":
			t.listens[at] = strings.ToLower(w[1])
		case word == "lvs lvs_method":
			method = w[1]
		case word == "lvs real_server" && method == "DR":
			at = port(w[1], w[2])
			t.direct[at] = true
		case word == "lvs real_server":
			at = port(w[1], w[2])
			t.sends[at] = false
		case word == "lvs connect_port":
			n, err := strconv.ParseUint(w[1], 10, 16)
			errs = append(errs, err)
			t.sends[netip.AddrPortFrom(at.Addr(), uint16(n))] = true
		case word == "keepalived virtual_router_id" && w[1] != "51",
			(word == "nginx proxy_bind" || word == "nginx grpc_bind" || word == "haproxy source") && !slices.Contains(mayBeFrom, w[1]):
			errs = append(errs, fmt.Errorf("%q is not admitted", line))
		}
	}
	return errors.Join(errs...)
}

// paths of what templates make.
var paths = regexp.MustCompile(`^(main\.conf|(services|http)/[a-z0-9-]{1,63}\.[a-z0-9-]{1,63}\.[a-z0-9-]{1,63}\.conf|certs/[0-9a-f]{32}\.pem|` +
	`keepalived/main\.conf|keepalived/addresses/ip-[0-9a-f.-]{2,39}\.conf)$`)

// file holds one that a daemon may read, by its path below a set, against what
// templates can make, and notes what it says.
func (a *attacker) file(t *traffic, path string, data []byte) {
	a.Helper()
	software := a.victim.Engine().Name
	if strings.HasPrefix(path, "keepalived/") {
		software = "keepalived"
	}
	private := strings.HasSuffix(path, ".pem")
	err := rendertest.Check(software, private, data)
	if !paths.MatchString(path) {
		err = errors.Join(err, errors.New("no template makes a file of this name"))
	}
	if !private {
		err = errors.Join(err, t.read(software, data))
	}
	if err != nil {
		a.blame(path, err)
	}
}

// blame says what was tried where something is wrong.
func (a *attacker) blame(what string, err error) {
	a.Helper()
	tried := ""
	for key, c := range a.tried {
		_, name, _ := strings.Cut(string(key), "/")
		if strings.Contains(what, strings.ReplaceAll(name, "/", ".")) || strings.Contains(what, string(key)) {
			tried = " (" + c + ")"
		}
	}
	a.Errorf("%s%s: %.1000v", what, tried, err)
}

func (a *attacker) newTraffic() *traffic {
	return &traffic{own: a.own, listens: map[netip.AddrPort]string{}, sends: map[netip.AddrPort]bool{}, direct: map[netip.AddrPort]bool{}}
}

// intact holds every file that a daemon could read, and what is listened on, against
// what may be. It counts the Services that are live.
func (a *attacker) intact() (services int) {
	a.Helper()
	all := a.newTraffic()
	for _, u := range a.victim.Units() {
		sets, globErr := filepath.Glob(filepath.Join(u.Dir, engine.GenerationsDir, "*", engine.FilesDir))
		live, err := filepath.EvalSymlinks(u.Live())
		if err = errors.Join(globErr, err); err != nil || !slices.Contains(sets, live) {
			a.Errorf("%s is none of %s: %v", live, sets, err)
			return 0
		}
		for _, dir := range sets {
			t := a.newTraffic()
			if dir == live {
				t = all
			}
			a.set(t, dir, u.OwnFile)
			if dir == live {
				files, _ := filepath.Glob(filepath.Join(dir, "services", "*.conf")) // the pattern is right
				services += len(files)
			} else if err := t.wrong(); err != nil {
				a.Errorf("%s: %v", dir, err)
			}
		}
	}
	if err := all.wrong(); err != nil {
		a.Errorf("live: %v", err)
	}
	for s := range host.Listening() {
		if !a.usual[s] && !listenable(s.Address, s.Network) {
			a.Errorf("a daemon listens on %s", s)
		}
	}
	return services
}

func (a *attacker) set(t *traffic, dir, ownFile string) {
	a.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() || strings.HasSuffix(name, ".pem") && info.Mode() != 0o600 {
			return fmt.Errorf("%s is %s", path, info.Mode())
		}
		data, err := os.ReadFile(path)
		switch {
		case err != nil:
		case name == ownFile:
			a.ownFile(path, data)
		default:
			a.file(t, name, data)
		}
		return err
	})
	if err != nil {
		a.Error(err)
	}
}

var numbersIn = regexp.MustCompile(`[0-9a-f]{11,64}|\d+`)

// ownFile has what the host says itself, which nothing that is sent changes but for
// digests, and perhaps all other files.
func (a *attacker) ownFile(path string, data []byte) {
	a.Helper()
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, "# file: "); ok && paths.MatchString(name) || rendertest.Line(a.victim.Engine().Name, line) {
			continue
		}
		words := numbersIn.ReplaceAllString(line, "N")
		if a.learns {
			a.ownLines[words] = true
		}
		if !a.ownLines[words] {
			a.Errorf("%s: unexpected: %.300q", path, line)
		}
	}
}

// carried holds the Items that are live against the bounds of the model.
func (a *attacker) carried(live lb.Manifest) {
	a.Helper()
	for key, sum := range live.All() {
		it, sent := a.sent[sum]
		if !sent {
			a.blame(string(key), errors.New("it is live, and nobody has sent it"))
			continue
		}
		m := lbtest.Messages[kindOf(key)]()
		err := proto.Unmarshal(it, m)
		if err == nil {
			err = known(m.ProtoReflect())
		}
		part, failed := lb.Decode(lb.NewItem(key, it))
		if err = errors.Join(err, failed); err == nil {
			err = errors.Join(lbtest.InBounds(part), lbtest.Says(lb.NewItem(key, it), part))
		}
		if err != nil {
			a.blame(string(key), fmt.Errorf("it is live: %w", err))
		}
	}
}

// known says what of a message this program does not know.
func known(m protoreflect.Message) (err error) {
	if len(m.GetUnknown()) > 0 {
		return fmt.Errorf("a field of %s that nobody knows", m.Descriptor().Name())
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Enum() != nil && fd.Enum().Values().ByNumber(v.Enum()) == nil:
			err = fmt.Errorf("%s is %d", fd.FullName(), v.Enum())
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				err = errors.Join(err, known(v.List().Get(i).Message()))
			}
		default:
			err = known(v.Message())
		}
		return err == nil
	})
	return err
}
