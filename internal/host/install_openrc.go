package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
)

// Where OpenRC runs the services, as on Alpine.
const (
	openrcRuns     = "/run/openrc" // is there where it does
	openrcScripts  = "/etc/init.d/"
	openrcEnabled  = "/etc/runlevels/default/"
	openrcAgentPID = openrcRuns + "/options/" + openrcAgent + "/child_pid" // as its supervisor notes it

	openrcAgent   = "external-lb-agent"
	openrcRestore = "external-lb-restore"
)

// openrcAgentScript has the agent supervised. Without systemd nothing bounds its memory but Go's
// own limit, and nothing watches whether it answers.
func (in *installer) openrcAgentScript() []byte {
	return fmt.Appendf(nil, `#!/sbin/openrc-run
# Made by `+"`external-lb host install`"+`.
description="external-lb's agent: makes this machine carry what it is sent"
supervisor=supervise-daemon
command=%[1]s
command_args="host agent"
command_user=%[2]s:%[2]s
respawn_delay=2
respawn_max=0
rc_ulimit="-n 1048576"
output_log=/var/log/external-lb-agent.log
error_log=/var/log/external-lb-agent.log
export GOMEMLIMIT=700MiB

depend() {
	after net
}

start_pre() {
	checkpath --directory --owner %[2]s:%[2]s --mode 0750 %[3]s
	checkpath --file --owner %[2]s:%[2]s --mode 0640 /var/log/external-lb-agent.log
}
`, in.Command, account, in.socketDir())
}

// openrcRestoreScript has the last good files in their place before the daemons read them, at boot.
func (in *installer) openrcRestoreScript() []byte {
	var daemons []string
	for _, p := range in.parts {
		daemons = append(daemons, strings.TrimSuffix(p.unit.Service, ".service"))
	}
	return fmt.Appendf(nil, `#!/sbin/openrc-run
# Made by `+"`external-lb host install`"+`.
description="external-lb: the last good files, before what reads them starts"

depend() {
	after localmount
	before %s
}

start() {
	ebegin "Restoring external-lb's last good files"
	su %s -s /bin/sh -c "%s host restore"
	eend $?
}
`, strings.Join(daemons, " "), account, in.Command)
}

// openrc makes both services of OpenRC's, and starts the agent anew where something has changed.
func (in *installer) openrc(ctx context.Context) error {
	err := errors.Join(
		in.openrcService(ctx, "restoring", openrcRestore, in.openrcRestoreScript()),
		in.openrcService(ctx, "agent", openrcAgent, in.openrcAgentScript()),
	)
	if err != nil {
		return err
	}
	pid, _ := os.ReadFile(openrcAgentPID) // it does not run
	return in.Step("agent", "start "+openrcAgent, in.isAgent(strings.TrimSpace(string(pid))), func() error {
		return engine.Do(ctx, in, "rc-service", openrcAgent, "restart")
	})
}

func (in *installer) openrcService(ctx context.Context, name, service string, script []byte) error {
	if err := in.File(name, openrcScripts+service, script, 0o755); err != nil {
		return err
	}
	_, err := os.Lstat(openrcEnabled + service)
	return in.Step(name, "enable "+service, err == nil, func() error { return engine.Do(ctx, in, "rc-update", "add", service, "default") })
}
