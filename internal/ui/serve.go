package ui

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Options of a page.
type Options struct {
	Config *rest.Config // of the cluster to show
	Scheme *runtime.Scheme
	Port   int              // on 127.0.0.1; 0: any that is free
	Ready  func(url string) // where the page is
}

// Run shows a cluster until the context ends.
func Run(ctx context.Context, o Options) error {
	kube, err := client.New(o.Config, client.Options{Scheme: o.Scheme})
	if err != nil {
		return fmt.Errorf("connecting to the API server: %w", err)
	}
	if err := ask(ctx, kube); err != nil {
		return err
	}
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: o.Port})
	if err != nil {
		return fmt.Errorf("serving the page: %w; say another --port", err)
	}
	w := &watch{config: o.Config, scheme: o.Scheme, hub: newHub()}
	w.tell("")
	s := &server{hub: w.hub, port: listener.Addr().(*net.TCPAddr).Port, token: rand.Text()}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.run(ctx, kube) })
	group.Go(func() error { return serve(ctx, listener, s) })
	o.Ready(fmt.Sprintf("http://%s/%s/", listener.Addr(), s.token))
	return group.Wait()
}

// serve answers until the context ends.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	s := &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
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
