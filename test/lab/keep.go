package lab

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// Keep is for when something has failed: if KEEP is set in the environment, it leaves everything as it is
// until Ctrl-C, and says how to look at it.
func (l *Lab) Keep(failed error) {
	if os.Getenv("KEEP") == "" {
		return
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(interrupted)
	fmt.Fprintf(os.Stderr, `%v
kept until Ctrl-C, with logs in %[2]s/logs; in another terminal:
  eval "$(bin/testcluster env --dir %[2]s)"
  bin/testcluster status --dir %[2]s
`, failed, filepath.Dir(l.Kubeconfig()))
	<-interrupted
}
