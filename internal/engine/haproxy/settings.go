package haproxy

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
)

// Settings are how the machine's HAProxy is used. Commands are argument
// lists; no shell sees them.
type Settings struct {
	Binary   string   `json:"binary,omitempty"`
	Check    []string `json:"check,omitempty"`    // tests a candidate by itself
	CheckAll []string `json:"checkAll,omitempty"` // tests the whole configuration
	Reload   []string `json:"reload,omitempty"`   // lets the master load it

	Conf        string `json:"conf,omitempty"`        // the owner's file
	ConfDir     string `json:"confDir,omitempty"`     // a directory that its service has it read beside that; "": none
	Environment string `json:"environment,omitempty"` // the file with the environment of its service
	// Options are the variable there that holds the options of its service, and those that
	// it has unless the file says otherwise, as EXTRAOPTS=-S /run/haproxy-master.sock.
	Options string `json:"options,omitempty"`
	PIDFile string `json:"pidFile,omitempty"`

	// Socket is where HAProxy says what it runs, and takes changes of nodes. Only
	// the user who delivers may use it.
	Socket string `json:"socket,omitempty"`
	// HardStopAfter is how long connections of earlier configurations may live on.
	HardStopAfter engine.Duration `json:"hardStopAfter,omitempty"`
	// ProofTimeout is how long a reload may take.
	ProofTimeout engine.Duration `json:"proofTimeout,omitempty"`
}

// SetDefaults of what is not set.
func (h *Settings) SetDefaults(root, dir string, sudo bool) {
	engine.SetDefault(&h.Binary, "/usr/sbin/haproxy")
	engine.SetDefault(&h.Conf, "/etc/haproxy/haproxy.cfg")
	engine.SetDefault(&h.Environment, "/etc/default/haproxy")
	engine.SetDefault(&h.Options, "EXTRAOPTS=-S /run/haproxy-master.sock")
	engine.SetDefault(&h.PIDFile, "/run/haproxy.pid")
	engine.SetDefault(&h.Socket, filepath.Join(root, "haproxy.sock"))
	engine.SetDefaultDuration(&h.HardStopAfter, 30*time.Minute)
	engine.SetDefaultDuration(&h.ProofTimeout, 30*time.Second)
	whole := func(link string) string { return filepath.Join(dir, link, "haproxy.cfg") }
	engine.SetDefaultCommand(&h.Check, false, h.Binary, "-c", "-f", whole(engine.CandidateLink))
	engine.SetDefaultCommand(&h.CheckAll, sudo, slices.Concat(h.checkOwn(), []string{"-f", whole(engine.LiveLink)})...)
	engine.SetDefaultCommand(&h.Reload, sudo, "/usr/bin/pkill", "-USR2", "-F", h.PIDFile)
}

// checkOwn checks what is the owner's alone.
func (h *Settings) checkOwn() []string {
	argv := []string{h.Binary, "-c", "-f", h.Conf}
	if h.ConfDir != "" {
		argv = append(argv, "-f", h.ConfDir)
	}
	return argv
}

var assignment = regexp.MustCompile(`^[A-Z][A-Z0-9_]*=[^"'\\$\n]*$`)

// variable holds the options of the service.
func (h *Settings) variable() string {
	name, _, _ := strings.Cut(h.Options, "=")
	return name
}

// Validate says what is wrong.
func (h *Settings) Validate() []error {
	paths := map[string]string{"haproxy.binary": h.Binary, "haproxy.conf": h.Conf,
		"haproxy.environment": h.Environment, "haproxy.pidFile": h.PIDFile, "haproxy.socket": h.Socket}
	if h.ConfDir != "" {
		paths["haproxy.confDir"] = h.ConfDir
	}
	errs := engine.CheckPaths(paths)
	if !assignment.MatchString(h.Options) {
		errs = append(errs, fmt.Errorf("haproxy.options: %q is not VARIABLE=OPTIONS", h.Options))
	}
	return errs
}
