// Command toyd forwards TCP. It is the daemon of the toy engine.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

const version = "toy/1.0.0"

func main() {
	check := flag.String("check", "", "directory to check")
	conf := flag.String("c", "/etc/toyd.conf", "configuration")
	socket := flag.String("socket", "/run/toyd.sock", "where it says what it runs")
	pidFile := flag.String("pid", "/run/toyd.pid", "file for the number of the process")
	say := flag.Bool("v", false, "print the version")
	flag.Parse()
	var err error
	switch {
	case *say:
		fmt.Println(version)
	case *check != "":
		_, err = readDir(*check)
	default:
		err = run(*conf, *socket, *pidFile)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// toyd is what runs.
type toyd struct {
	conf string

	mu         sync.Mutex
	open       map[netip.AddrPort]*listener
	generation string
	loads      int
	refused    string // what was wrong with the last load
}

type listener struct {
	net.Listener
	front atomic.Pointer[front]
}

func run(conf, socket, pidFile string) error {
	d := &toyd{conf: conf, open: map[netip.AddrPort]*listener{}}
	if d.load(); d.refused != "" {
		return errors.New(d.refused)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	control, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(socket, 0o666), os.WriteFile(pidFile, fmt.Appendln(nil, os.Getpid()), 0o644)); err != nil {
		return err
	}
	go d.answer(control)
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	for range again {
		d.load()
	}
	return nil
}

// answer says what runs.
func (d *toyd) answer(control net.Listener) {
	for {
		c, err := control.Accept()
		if err != nil {
			continue // too many files are open, say
		}
		d.mu.Lock()
		fmt.Fprintf(c, "%s %d %s\n%d %s\n", version, os.Getpid(), d.generation, d.loads, d.refused) // who has gone is not missed
		d.mu.Unlock()
		c.Close()
	}
}

// load takes all of what is configured, or nothing.
func (d *toyd) load() {
	next, err := readConf(d.conf)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.loads++
	var fresh []*listener
	if err == nil {
		fresh, err = d.listen(next.fronts)
	}
	if err != nil {
		d.refused = err.Error()
		return
	}
	d.refused, d.generation = "", next.generation
	wanted := map[netip.AddrPort]bool{}
	for _, f := range next.fronts {
		d.open[f.listen].front.Store(f)
		wanted[f.listen] = true
	}
	for at, l := range d.open {
		if !wanted[at] {
			l.Close()
			delete(d.open, at)
		}
	}
	for _, l := range fresh {
		go l.serve()
	}
}

// listen opens what is not open yet.
func (d *toyd) listen(fronts []*front) (fresh []*listener, err error) {
	for _, f := range fronts {
		if d.open[f.listen] != nil {
			continue
		}
		l, err := net.Listen("tcp", f.listen.String())
		if err != nil {
			for _, l := range fresh {
				delete(d.open, netip.MustParseAddrPort(l.Addr().String()))
				l.Close()
			}
			return nil, fmt.Errorf("cannot listen on %s: %w", f.listen, errors.Unwrap(err))
		}
		one := &listener{Listener: l}
		d.open[f.listen], fresh = one, append(fresh, one)
	}
	return fresh, nil
}

func (l *listener) serve() {
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err == nil:
			go l.front.Load().forward(c)
		}
	}
}

// forward a connection to the next node that answers.
func (f *front) forward(c net.Conn) {
	defer c.Close()
	from := netip.MustParseAddrPort(c.RemoteAddr().String()).Addr().Unmap()
	if len(f.to) == 0 || !slices.ContainsFunc(f.from, func(p netip.Prefix) bool { return p.Contains(from) }) {
		return
	}
	for range f.tries {
		at := f.to[int(f.turn.Add(1))%len(f.to)]
		node, err := net.DialTimeout("tcp", at.String(), f.connect)
		if err != nil {
			continue
		}
		defer node.Close()
		both(c.(*net.TCPConn), node.(*net.TCPConn))
		return
	}
}

// both ways, until both have ended.
func both(a, b *net.TCPConn) {
	var all sync.WaitGroup
	for _, way := range [][2]*net.TCPConn{{a, b}, {b, a}} {
		all.Go(func() {
			_, _ = io.Copy(way[1], way[0]) // whatever ends it, it has ended
			_ = way[1].CloseWrite()
		})
	}
	all.Wait()
}

// words of a line without its remark.
func words(line string) []string {
	text, _, _ := strings.Cut(line, "#")
	return strings.Fields(text)
}
