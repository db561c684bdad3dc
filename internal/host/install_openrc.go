package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

	agentLog      = "/var/log/external-lb-agent.log"
	agentRotation = "/etc/logrotate.d/external-lb-agent"
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
output_log=%[4]s
error_log=%[4]s
export GOMEMLIMIT=700MiB

depend() {
	after net
}

start_pre() {
	checkpath --directory --owner %[2]s:%[2]s --mode 0750 %[3]s
	checkpath --file --owner %[2]s:%[2]s --mode 0640 %[4]s
}
`, in.Command, account, in.socketDir(), agentLog)
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
		in.rotation(),
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

// rotation keeps the agent's log small. OpenRC holds the file open, and writes at its end.
func (in *installer) rotation() error {
	const name = "log"
	if !in.DryRun {
		if err := os.MkdirAll(filepath.Dir(agentRotation), 0o755); err != nil {
			return err
		}
	}
	err := in.File(name, agentRotation, []byte(`# Made by `+"`external-lb host install`"+`.
`+agentLog+` {
	weekly
	maxsize 10M
	rotate 4
	compress
	copytruncate
	missingok
	notifempty
}
`), 0o644)
	if _, missing := exec.LookPath("logrotate"); missing != nil && err == nil {
		in.Report("logrotate", engine.StepWarning, fmt.Sprintf("it is missing, so nothing keeps %s small: %s logrotate", agentLog, in.settings.family.Get))
	}
	return err
}

func (in *installer) openrcService(ctx context.Context, name, service string, script []byte) error {
	if err := in.File(name, openrcScripts+service, script, 0o755); err != nil {
		return err
	}
	_, err := os.Lstat(openrcEnabled + service)
	return in.Step(name, "enable "+service, err == nil, func() error { return engine.Do(ctx, in, "rc-update", "add", service, "default") })
}
