package keepalived

import (
	"path/filepath"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
)

// Settings are how the machine's keepalived is used. Commands are
// argument lists; no shell sees them.
type Settings struct {
	Binary   string   `json:"binary,omitempty"`
	Check    []string `json:"check,omitempty"`    // tests a candidate by itself
	CheckAll []string `json:"checkAll,omitempty"` // tests the whole configuration
	Reload   []string `json:"reload,omitempty"`

	Conf    string `json:"conf,omitempty"` // the owner's file
	PIDFile string `json:"pidFile,omitempty"`
	// ProofTimeout is how long a reload may take.
	ProofTimeout engine.Duration `json:"proofTimeout,omitempty"`
}

// SetDefaults of what is not set.
func (k *Settings) SetDefaults(_, dir string, sudo bool) {
	engine.SetDefault(&k.Binary, "/usr/sbin/keepalived")
	engine.SetDefault(&k.Conf, "/etc/keepalived/keepalived.conf")
	engine.SetDefault(&k.PIDFile, "/run/keepalived.pid")
	engine.SetDefaultDuration(&k.ProofTimeout, 30*time.Second)
	engine.SetDefaultCommand(&k.Check, sudo, k.test(filepath.Join(dir, engine.CandidateLink, "keepalived.conf"))...)
	engine.SetDefaultCommand(&k.CheckAll, sudo, k.test(k.Conf)...)
	engine.SetDefaultCommand(&k.Reload, sudo, "/usr/bin/pkill", "-HUP", "-F", k.PIDFile)
}

const unshare = "/usr/bin/unshare"

// test of a file. keepalived 2.2 ends itself before it has looked at all, where a script is
// not root's: it looks for its parent then, and takes that it has none for what it expects.
// So it is the first process of a namespace.
func (k *Settings) test(conf string) []string {
	return []string{unshare, "--pid", "--fork", "--kill-child", k.Binary, "-t", "-f", conf}
}

// Validate says what is wrong.
func (k *Settings) Validate() []error {
	return engine.CheckPaths(map[string]string{"keepalived.binary": k.Binary, "keepalived.conf": k.Conf, "keepalived.pidFile": k.PIDFile})
}
