package host

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/internal/fileset"
)

// New makes the Host of this machine. Where keepalived moves the addresses beside
// another daemon, one delivery is for both.
func New(s Settings) (Host, error) {
	engine, err := NewAgent(s)
	if err != nil || !s.twoDaemons() {
		return engine, err
	}
	return &pair{engine, newVRRPAgent(s)}, nil
}

func newVRRPAgent(s Settings) *Agent {
	return &Agent{settings: s, dir: s.vrrpDir(), daemon: newKeepalived(s, machine{}), at: func(string) {}}
}

// pair is a machine with a daemon that carries the traffic, and keepalived.
// What is carried goes live first, so that nothing is at an address that is not
// answered there. Each of them takes a delivery as a whole or not at all; if only
// the first does, the status says what runs, and the delivery is made again.
type pair struct {
	engine, vrrp *Agent
}

// isKeepaliveds reports whether a file of a set is for keepalived.
func isKeepaliveds(path string) bool { return strings.HasPrefix(path, keepalivedPrefix) }

func (p *pair) Status(ctx context.Context) (Status, error) {
	status, err := p.engine.Status(ctx)
	if err != nil {
		return status, err
	}
	vrrp, err := p.vrrp.Status(ctx)
	if err != nil {
		return status, err
	}
	carried, addressed := status.Files, vrrp.Files
	status.Files = union(carried, addressed)
	switch {
	case status.Live == "" || vrrp.Live == "":
		status.Live = ""
	case status.Live == carried.Digest() && vrrp.Live == addressed.Digest():
		status.Live = status.Files.Digest()
	default: // no set on disk: what somebody has changed
		sum := sha256.Sum256([]byte(status.Live + vrrp.Live))
		status.Live = fileset.Digest(hex.EncodeToString(sum[:]))
	}
	status.EngineVersion = strings.TrimSpace(status.EngineVersion + " " + vrrp.EngineVersion)
	status.Running = status.Running && vrrp.Running
	status.Active = p.active()
	status.Message = cmp.Or(status.Message, vrrp.Message)
	if vrrp.Epoch.Compare(status.Epoch) < 0 {
		status.Epoch = vrrp.Epoch // what both have taken
	}
	return status, nil
}

func (p *pair) Apply(ctx context.Context, d Delivery) (Outcome, error) {
	have, err := p.files()
	if err != nil {
		return Outcome{}, p.engine.explain(err)
	}
	if digest := have.Digest(); digest != d.Base {
		return Outcome{}, baseMismatch(digest, d.Base)
	}
	carries := d.of(have, func(path string) bool { return !isKeepaliveds(path) })
	carries.Whole, carries.Spared = d.Whole, d.Spared
	carried, err := p.engine.Apply(ctx, carries)
	if err != nil {
		return Outcome{}, err
	}
	addressed, err := p.vrrp.Apply(ctx, d.of(have, isKeepaliveds))
	if err != nil {
		return Outcome{}, err
	}
	files := union(carried.Files, addressed.Files)
	return Outcome{
		Live: files.Digest(), Files: files,
		Refused:  slices.Concat(carried.Refused, addressed.Refused),
		Reloaded: carried.Reloaded || addressed.Reloaded,
		Active:   p.active(),
	}, nil
}

// active reports whether this machine has the addresses.
func (p *pair) active() bool { return p.vrrp.active() }

// files of both on disk.
func (p *pair) files() (fileset.Manifest, error) {
	all := fileset.Manifest{}
	for _, a := range []*Agent{p.engine, p.vrrp} {
		s, err := openStore(a.dir)
		if err != nil {
			return nil, err
		}
		x, err := a.liveFiles(s)
		s.close() // nothing is written to a directory
		if err != nil {
			return nil, err
		}
		maps.Copy(all, x.manifest())
	}
	return all, nil
}

// of is the part of a delivery for one of two daemons.
func (d Delivery) of(have fileset.Manifest, mine func(path string) bool) Delivery {
	base := fileset.Manifest{}
	for path, sum := range have {
		if mine(path) {
			base[path] = sum
		}
	}
	part := Delivery{Epoch: d.Epoch, Base: base.Digest()}
	want := maps.Clone(base)
	for _, path := range d.Change.Delete {
		if mine(path) {
			part.Change.Delete = append(part.Change.Delete, path)
			delete(want, path)
		}
	}
	for _, f := range d.Change.Put {
		if mine(f.Path) {
			part.Change.Put = append(part.Change.Put, f)
			want[f.Path] = f.Sum
		}
	}
	part.Want = want.Digest()
	return part
}

func union(a, b fileset.Manifest) fileset.Manifest {
	all := maps.Clone(a)
	if all == nil {
		all = fileset.Manifest{}
	}
	maps.Copy(all, b)
	return all
}
