package main

import (
	"fmt"
	"net"
	"os"
)

// log listens on a socket as syslog does, and appends what comes to a file, a line each.
func log(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("want two arguments, the socket and the file")
	}
	file, err := os.OpenFile(args[1], os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: args[0]})
	if err != nil {
		return err
	}
	if err := os.Chmod(args[0], 0o666); err != nil { // daemons have left root's rights
		return err
	}
	line := make([]byte, 64<<10)
	for {
		n, err := socket.Read(line)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(file, "%s\n", line[:n]); err != nil {
			return err
		}
	}
}
