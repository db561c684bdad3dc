package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// askUnix sends a line to a socket, and prints what is answered.
func askUnix(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("want two arguments, the socket and the line")
	}
	conn, err := net.DialTimeout("unix", args[0], 10*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(conn, args[1]); err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, conn)
	return err
}
