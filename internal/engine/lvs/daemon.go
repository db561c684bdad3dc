package lvs

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/keepalived"
	"github.com/external-lb/external-lb/internal/fileset"
)

// Where IPVS is, keepalived also puts the virtual servers into the kernel. What
// keepalived and IPVS cannot do, the kernel's packet filter does by rules that the
// host's end makes: it gives packets to nodePorts this machine's address, so that
// answers come back here, and drops clients that are not allowed.

// Daemon is keepalived, which keeps IPVS, and may move addresses.
type Daemon struct {
	*keepalived.Daemon
	rules []string // loads those of the packet filter
	left  *engine.Leaving
	pause engine.Pause // where Repair failed
	swept sync.Once    // what earlier processes left beside the rules

	mu    sync.Mutex
	seen  map[fileset.Digest]map[fileset.Socket]virtualServer // of sets that were live lately
	ended []string                                            // those of left that the rules end
}

func open(p engine.Place) engine.Daemon {
	s := p.Settings.(*Settings) // of Engine.Settings
	d := &Daemon{
		Daemon: &keepalived.Daemon{Settings: &s.Settings, Runner: p.Runner, Dir: p.Dir, Set: p.Set, Carrier: p.Carrier},
		rules:  s.Rules,
		left:   engine.NewLeaving(filepath.Join(p.Dir, leavingFile)),
		seen:   map[fileset.Digest]map[fileset.Socket]virtualServer{},
	}
	d.Beside = &keepalived.Beside{Globals: d.globals, Carries: d.carries, Lacks: d.lacking}
	return d
}

func (k *Daemon) Commands() [][]string { return append(k.Daemon.Commands(), k.rules) }

func (k *Daemon) Stopped() string {
	carried := "nothing"
	if k.Carrier != "" {
		carried = "no datagrams, and has no address that moves by VRRP"
	}
	return "keepalived does not run, so this host carries " + carried +
		": start it (systemctl start keepalived); `journalctl -u keepalived` says what it may lack"
}

// globals have keepalived load the packet filter's rules when it starts.
func (k *Daemon) globals(shown string) string {
	rules, _ := engine.WithoutSudo(k.rules)
	return fmt.Sprintf("    checker_process_name %s\n    startup_script \"%s\" root\n    enable_script_security\n", shown, strings.Join(rules, " "))
}

// carries reports whether anything of what is live is for IPVS.
func (k *Daemon) carries() bool {
	all, err := k.virtualServers(engine.LiveLink)
	if err != nil {
		return true
	}
	for _, v := range all {
		if len(v.realServers) > 0 {
			return true
		}
	}
	return false
}

// lacking compares the kernel's table with what is live.
func (k *Daemon) lacking() func() string {
	servers, _ := k.virtualServers(engine.LiveLink) // what cannot be read, keepalived does not show either
	before, _ := k.virtualServers(engine.BackLink)
	return func() string { return differs(servers, before) }
}

// Reload loads the packet filter's rules for what was and what will be live, then
// keepalived's configuration, and then the rules for what is live alone.
func (k *Daemon) Reload(ctx context.Context, want fileset.Digest, least time.Duration) error {
	if _, err := ipvsCarries(); err != nil {
		return engine.Failed("%s", noIPVS)
	}
	live, err := k.virtualServers(engine.LiveLink)
	if err != nil { // a way back to files that somebody has changed: the rules stay as they are
		return k.Daemon.Reload(ctx, want, least)
	}
	before, err := k.virtualServers(engine.BackLink)
	if err != nil {
		before = nil // what nobody knows ends now
	}
	if err := k.load(ctx, live, before); err != nil {
		return err
	}
	if err := k.Daemon.Reload(ctx, want, least); err != nil {
		return err
	}
	if !gone(before, live) {
		return nil // the rules are those already
	}
	return k.load(ctx, live, nil)
}

// virtualServers of a set, by what they listen on. They are only read.
func (k *Daemon) virtualServers(link string) (map[fileset.Socket]virtualServer, error) {
	set, err := k.Set(link)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	all, ok := k.seen[set.Digest]
	k.mu.Unlock()
	if ok {
		return all, nil
	}
	if all, err = virtualServersOf(set); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.seen) > 2 { // two are enough to compare what is live with what was
		clear(k.seen)
	}
	k.seen[set.Digest] = all
	return all, nil
}

// rulesFile is what nft reads, here and when keepalived starts.
const rulesFile = "rules.nft"

// load loads the rules for what is live, and until it is proved also those for
// what was live before. They end the connections that have had their time.
func (k *Daemon) load(ctx context.Context, live, before map[fileset.Socket]virtualServer) error {
	all := map[fileset.Socket]virtualServer{}
	for _, set := range []map[fileset.Socket]virtualServer{before, live} {
		for at, v := range set {
			all[at] = v
		}
	}
	late := k.late(live)
	path, text := filepath.Join(k.Dir, rulesFile), []byte(packetRules(all, late))
	k.swept.Do(func() { engine.Sweep(path) })
	if have, err := os.ReadFile(path); err != nil || !bytes.Equal(have, text) {
		if err := engine.ReplaceFile(path, text, 0o644); err != nil {
			return err
		}
	}
	words, err := engine.Verdict(ctx, k.Runner, k.rules, "nftables", engine.OneLine)
	if err == nil && words != "" {
		err = engine.Failed("the packet filter refuses its rules: %s", words)
	}
	if err == nil {
		k.mu.Lock()
		k.ended = late
		k.mu.Unlock()
	}
	return err
}

// Repair loads the rules for what is live once more: somebody may have flushed them,
// as `systemctl reload nftables` does with Debian's file, or the machine went down
// before they were loaded.
func (k *Daemon) Repair(ctx context.Context) error {
	live, err := k.virtualServers(engine.LiveLink)
	if err == nil {
		err = k.load(ctx, live, nil)
	}
	return cmp.Or(k.pause.After(ctx, err), k.left.Kept())
}

// Missed says why not all are known whose connections are to end.
func (k *Daemon) Missed() error { return k.left.Missed() }

// gone reports whether something of what was there before is there no longer.
func gone(before, now map[fileset.Socket]virtualServer) bool {
	for at := range before {
		if _, there := now[at]; !there {
			return true
		}
	}
	return false
}

// Diagnose says when the kernel does not carry what keepalived has given it.
func (k *Daemon) Diagnose(ctx context.Context) string {
	want, err := k.virtualServers(engine.LiveLink)
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
	real := 0
	for _, v := range want {
		real += len(v.realServers)
	}
	version, err := k.Version(ctx)
	if err == nil && real > manyRealServers && engine.Older(version, "keepalived", linearReload) {
		return fmt.Sprintf("%s takes long to reload %d real servers: upgrade it to 2.3, or set spec.nodes.maxPerService of the Balancer", version, real)
	}
	return ""
}

// linearReload is the first version whose reload takes time in proportion; before,
// so many real servers take about a second, and ten times as many a hundred.
var linearReload = [3]int{2, 3, 0}

const manyRealServers = 3000
