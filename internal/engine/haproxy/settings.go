package haproxy

import (
	"path/filepath"
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
	Environment string `json:"environment,omitempty"` // of its service, with EXTRAOPTS
	PIDFile     string `json:"pidFile,omitempty"`

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
	engine.SetDefault(&h.PIDFile, "/run/haproxy.pid")
	engine.SetDefault(&h.Socket, filepath.Join(root, "haproxy.sock"))
	engine.SetDefaultDuration(&h.HardStopAfter, 30*time.Minute)
	engine.SetDefaultDuration(&h.ProofTimeout, 30*time.Second)
	whole := func(link string) string { return filepath.Join(dir, link, "haproxy.cfg") }
	engine.SetDefaultCommand(&h.Check, false, h.Binary, "-c", "-f", whole(engine.CandidateLink))
	engine.SetDefaultCommand(&h.CheckAll, sudo, h.Binary, "-c", "-f", h.Conf, "-f", whole(engine.LiveLink))
	engine.SetDefaultCommand(&h.Reload, sudo, "/usr/bin/pkill", "-USR2", "-F", h.PIDFile)
}

// Validate says what is wrong.
func (h *Settings) Validate() []error {
	return engine.CheckPaths(map[string]string{"haproxy.binary": h.Binary, "haproxy.conf": h.Conf,
		"haproxy.environment": h.Environment, "haproxy.pidFile": h.PIDFile, "haproxy.socket": h.Socket})
}
