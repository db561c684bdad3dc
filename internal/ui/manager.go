package ui

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/internal/ui/page"
)

// Managed says where a manager has its page, and who may look.
type Managed struct {
	// Address to serve on; "0" or "": there is no page. On the loopback it is for whoever
	// can reach that, by `kubectl port-forward`. On another it takes TLS and tokens.
	Address string
	// Names under which it is asked for, beside those of the loopback.
	Names []string
	// CertDir has tls.crt and tls.key; "": a certificate of its own.
	CertDir string
}

// On reports whether there is a page.
func (m Managed) On() bool { return m.Address != "" && m.Address != "0" }

// Sources are what a manager knows.
type Sources struct {
	Config  *rest.Config
	Cache   cache.Cache
	Server  client.Reader // the API server itself
	Name    func() string // of this manager, and whether it leads
	Traffic func(context.Context) ([]page.Look, error)
	Log     logr.Logger
}

// What the pages of a manager take at most, beside those of the command.
const (
	maxWindows     = 64
	maxOfViewer    = 8
	maxConnections = 256
	maxOfAddress   = 64
	managerPause   = 500 * time.Millisecond // between two looks at what has changed
	managerShare   = 10                     // one part in so many of the time is spent on looks
)

// Page is a manager's: a Runnable that needs no leader election.
type Page struct {
	Sources
	*server
	listener net.Listener
	certs    starter       // that are read again when they change; nil: none
	changed  chan struct{} // has one after a change of what is cached

	loaded     bool
	unanswered string // why the caches may be old
	unpainted  string // why there is no newer page
}

type starter interface{ Start(context.Context) error }

// NewPage listens. What it needs of the caches is read by the manager anyhow.
func NewPage(m Managed, s Sources) (*Page, error) {
	shared, err := isShared(m.Address)
	if err != nil {
		return nil, err
	}
	p := &Page{Sources: s, changed: make(chan struct{}, 1)}
	p.server = &server{hub: newHub(), base: Path + "/", meant: named(m.Names), places: newPlaces(maxWindows, maxOfViewer), beat: beatEvery}
	if p.listener, err = net.Listen("tcp", m.Address); err != nil {
		return nil, fmt.Errorf("serving the page: %w", err)
	}
	p.listener = netutil.LimitListener(p.listener, maxConnections)
	if !shared {
		return p, nil
	}
	if err := p.secure(m); err != nil {
		return nil, errors.Join(err, p.listener.Close())
	}
	return p, nil
}

// secure lets only those look whom the API server knows, over TLS.
func (p *Page) secure(m Managed) error {
	kube, err := kubernetes.NewForConfig(p.Config)
	if err != nil {
		return fmt.Errorf("connecting to the API server: %w", err)
	}
	config, certs, err := tlsConfig(m)
	if err != nil {
		return err
	}
	p.access, p.certs, p.listener = newAccess(kube, p.Log), certs, tls.NewListener(p.listener, config)
	return nil
}

// Address that it listens on.
func (p *Page) Address() net.Addr { return p.listener.Addr() }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (*Page) NeedLeaderElection() bool { return false }

// Start implements manager.Runnable. What goes wrong with the page harms nothing else.
func (p *Page) Start(ctx context.Context) error {
	if err := hear(ctx, p.Cache, ofManagers(), p.hears); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	if p.certs != nil {
		group.Go(func() error { return p.certs.Start(ctx) })
	}
	each := connections{most: maxOfAddress, of: map[netip.Prefix]int{}}
	group.Go(func() error { return serve(ctx, p.listener, p.server, each.note) })
	group.Go(func() error { p.follow(ctx); return nil })
	group.Go(func() error { followTraffic(ctx, p.server, trafficEvery, p.Traffic); return nil })
	if err := group.Wait(); err != nil {
		p.Log.Error(err, "There is no page any more")
	}
	return nil
}

func (p *Page) hears() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// follow shows what the caches have, while somebody looks.
func (p *Page) follow(ctx context.Context) {
	for {
		p.hub.publish(ofObjects, nil)
		p.loaded = false
		p.tell()
		if !p.places.await(ctx) {
			return
		}
		p.look(ctx)
	}
}

// look follows the caches until nobody looks any more. It works a part of the time only, so
// that the manager has the rest for what it is there for.
func (p *Page) look(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan error)
	go answer(ctx, func() error { return ask(ctx, p.Server, ofManagers()[:1]) }, answers)
	p.hears()
	for p.places.any() {
		select {
		case <-ctx.Done():
			return
		case <-p.changed:
			began := time.Now()
			p.show(ctx)
			pause(ctx, max(managerPause, managerShare*time.Since(began)))
		case err := <-answers:
			if p.unanswered = ""; err != nil {
				p.unanswered = err.Error()
			}
			p.tell()
		}
	}
}

func (p *Page) show(ctx context.Context) {
	items, err := p.paint(ctx)
	if p.unpainted = ""; err != nil {
		p.unpainted = err.Error()
		p.Log.Error(err, "There is no newer page")
	} else {
		p.hub.publish(ofObjects, items)
		p.loaded = true
	}
	p.tell()
}

// paint a page. What is wrong with that is not the end of the manager.
func (p *Page) paint(ctx context.Context) (items []page.Item, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("making the page: %v", fault)
		}
	}()
	return paint(ctx, p.Cache, ofManagers())
}

func (p *Page) tell() {
	p.hub.tell(connection{Server: p.Name(), Problem: cmp.Or(p.unanswered, p.unpainted), Loaded: p.loaded})
}
