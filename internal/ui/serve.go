package ui

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/internal/ui/page"
)

// Options of a page.
type Options struct {
	Config *rest.Config // of the cluster to show
	Scheme *runtime.Scheme
	Port   int              // on 127.0.0.1; 0: any that is free
	Ready  func(url string) // where the page is
	// Traffic asks what hosts tell of it, while somebody looks; nil: nobody can be asked.
	Traffic func(context.Context) ([]page.Look, error)
}

// maxPages is how many browser windows of one user are kept up to date.
const maxPages = 16

// Limits of one answer, but for streams of events, which have their own.
const (
	headerTimeout = 5 * time.Second
	answerTimeout = 30 * time.Second
	idleTimeout   = time.Minute
	maxHeader     = 16 << 10
)

// Run shows a cluster until the context ends.
func Run(ctx context.Context, o Options) error {
	kube, err := client.New(o.Config, client.Options{Scheme: o.Scheme})
	if err != nil {
		return fmt.Errorf("connecting to the API server: %w", err)
	}
	if err := ask(ctx, kube, kinds()); err != nil {
		return err
	}
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: o.Port})
	if err != nil {
		return fmt.Errorf("serving the page: %w; say another --port", err)
	}
	w := &watch{config: o.Config, scheme: o.Scheme, hub: newHub()}
	w.tell()
	s := &server{
		hub: w.hub, base: "/" + rand.Text() + "/", secret: true, meant: onPort(listener.Addr().(*net.TCPAddr).Port),
		places: newPlaces(maxPages, maxPages), beat: beatEvery,
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.run(ctx, kube) })
	group.Go(func() error { return serve(ctx, listener, s, nil) })
	if o.Traffic != nil {
		group.Go(func() error { followTraffic(ctx, s, trafficEvery, o.Traffic); return nil })
	}
	o.Ready(fmt.Sprintf("http://%s%s", listener.Addr(), s.base))
	return group.Wait()
}

// withoutBody turns away requests that announce a body, and hangs up: net/http would wait for it,
// for ever, and each connection takes a place.
func withoutBody(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			w.Header().Set("Connection", "close")
			_ = http.NewResponseController(w).SetReadDeadline(time.Now()) // else what is announced is waited for after the answer
			http.Error(w, "nothing is taken here, so no request has a body", http.StatusBadRequest)
			return
		}
		handler.ServeHTTP(w, r)
	})
}

// serve answers until the context ends. noted hears of connections; nil: nobody does.
func serve(ctx context.Context, listener net.Listener, handler http.Handler, noted func(net.Conn, http.ConnState)) error {
	s := &http.Server{
		Handler: withoutBody(handler), ReadHeaderTimeout: headerTimeout, WriteTimeout: answerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ConnState:   noted,
		ErrorLog:    log.New(io.Discard, "", 0),                        // strangers who speak no TLS fill no log
		BaseContext: func(net.Listener) context.Context { return ctx }, // which ends the streams of events
	}
	ended := context.AfterFunc(ctx, func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = s.Shutdown(last) // what still waits then is closed with the process
	})
	defer ended()
	if err := s.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving the page: %w", err)
	}
	return nil
}
