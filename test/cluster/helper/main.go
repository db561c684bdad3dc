// Command helper is what the test cluster runs inside its namespaces: the first process of the cluster
// (init), the first process of a balancer host (host, or guest in a virtual machine), the server in
// every pod (echo), clients for what the kernel may lack (ask-sctp) and for sockets of a host (ask-unix),
// and what takes the place of syslog (log). It uses the standard library only: it is built from source
// embedded into package cluster, and runs once per pod.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	run := map[string]func([]string) error{"init": clusterInit, "host": host, "host-init": hostInit, "guest": guest,
		"guest-console": guestConsole, "in-guest": inGuest, "echo": echo, "ask-sctp": askSCTP, "ask-unix": askUnix, "log": log}
	if len(os.Args) < 2 || run[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: helper init|host|guest|in-guest|echo|ask-sctp|ask-unix|log [flags]")
		os.Exit(2)
	}
	if err := run[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "helper %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

// clusterInit is process 1 of the cluster's PID namespace, in mount and network namespaces of its own.
// Names of network namespaces live on a tmpfs that only this mount namespace sees, so when this process
// ends, the kernel takes every process, mount, namespace and link of the cluster with it.
//
// It says "ready" on stdout, then watches stdin: when that ends, the owner of the cluster is gone and
// so is the cluster, unless the owner said "detach" before.
func clusterInit(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one argument, the directory for the hosts' disks")
	}
	if err := mountAll([]mount{
		{target: "/", flags: syscall.MS_REC | syscall.MS_PRIVATE},
		{source: "proc", target: "/proc", fstype: "proc"},
		{source: "tmpfs", target: "/run/netns", fstype: "tmpfs", data: "mode=755"},
		{source: "tmpfs", target: args[0], fstype: "tmpfs", data: "mode=755"},
	}); err != nil {
		return err
	}
	fmt.Println("ready")
	go reap()
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil || line != "detach\n" {
		return nil
	}
	select {}
}

// reap collects the processes that daemons leave behind when they fork and exit.
func reap() {
	child := make(chan os.Signal, 1)
	signal.Notify(child, syscall.SIGCHLD)
	for {
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if pid <= 0 && err != syscall.EINTR {
				break
			}
		}
		<-child
	}
}
