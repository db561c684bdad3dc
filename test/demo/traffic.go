package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Connections that stay open while traffic is looked at, and how many pictures of it are shown.
const (
	held         = 5
	pictures     = 3
	mostPictures = 30 // in which what is held must be seen
)

// watchTraffic shows what the hosts' daemons see of a Service.
func (d *demo) watchTraffic(ctx context.Context) error {
	title("What the balancer sees, live: %d connections that stay, and requests that come and go", held)
	for range held {
		c, err := d.hold(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
	}
	load := startLoad(ctx, d.get)
	command("external-lb top --interval 1s")
	if err := d.top(ctx); err != nil {
		return err
	}
	return load.sumUp()
}

// hold a connection on which a pod has answered.
func (d *demo) hold(ctx context.Context) (net.Conn, error) {
	c, err := d.DialFrom(ctx, "client", "tcp", net.JoinHostPort(d.address, "80"))
	if err != nil {
		return nil, err
	}
	err = c.SetDeadline(time.Now().Add(5 * time.Second))
	if err == nil {
		_, err = fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", d.address)
	}
	if err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("a connection that is to stay: %w", err), c.Close())
	}
	return c, nil
}

// top runs the command until its pictures have what is held.
func (d *demo) top(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, d.binary, "top", "--interval", "1s", "--metrics", d.Manager.Metrics)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return err
	}
	err = showPictures(out)
	cancel()
	_ = cmd.Wait() // it was ended
	return err
}

// showPictures shows some, without what they begin with in common.
func showPictures(from io.Reader) error {
	lines, head := bufio.NewScanner(from), ""
	for shown, seen := 0, false; lines.Scan(); {
		switch line := lines.Text(); {
		case line == "": // the end of one
			shown++
		case line != head:
			block(line)
			seen = seen || openIn(line) >= held
		}
		if strings.HasPrefix(lines.Text(), "SERVICE") {
			head = lines.Text()
		}
		switch {
		case seen && shown >= pictures:
			good("the %d connections are seen", held)
			return nil
		case shown >= mostPictures:
			return fmt.Errorf("top does not show the %d connections that are open", held)
		}
	}
	return errors.Join(errors.New("top has ended"), lines.Err())
}

// openIn is how many connections of the Service a line says are open; -1: it is no such line.
func openIn(line string) int {
	fields := strings.Fields(line)
	if len(fields) < 3 || fields[0] != "default/web" {
		return -1
	}
	n, err := strconv.Atoi(fields[2])
	if err != nil {
		return -1
	}
	return n
}
