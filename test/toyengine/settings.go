package toyengine

import (
	"time"

	"github.com/external-lb/external-lb/internal/engine"
)

// Settings are how the machine's toyd is used.
type Settings struct {
	Binary       string          `json:"binary,omitempty"`
	Check        []string        `json:"check,omitempty"`  // tests a candidate by itself
	Reload       []string        `json:"reload,omitempty"` // lets toyd load what is live
	Conf         string          `json:"conf,omitempty"`   // the owner's file
	Socket       string          `json:"socket,omitempty"` // where toyd says what it runs
	PIDFile      string          `json:"pidFile,omitempty"`
	ProofTimeout engine.Duration `json:"proofTimeout,omitempty"`
}

// SetDefaults of what is not set.
func (s *Settings) SetDefaults(_, dir string, sudo bool) {
	engine.SetDefault(&s.Binary, "/usr/sbin/toyd")
	engine.SetDefault(&s.Conf, "/etc/toyd.conf")
	engine.SetDefault(&s.Socket, "/run/toyd.sock")
	engine.SetDefault(&s.PIDFile, "/run/toyd.pid")
	engine.SetDefaultDuration(&s.ProofTimeout, 10*time.Second)
	engine.SetDefaultCommand(&s.Check, false, s.Binary, "-check", dir+"/"+engine.CandidateLink)
	engine.SetDefaultCommand(&s.Reload, sudo, "/usr/bin/pkill", "-HUP", "-F", s.PIDFile)
}

// Validate says what is wrong.
func (s *Settings) Validate() []error {
	return engine.CheckPaths(map[string]string{"toy.binary": s.Binary, "toy.conf": s.Conf, "toy.socket": s.Socket, "toy.pidFile": s.PIDFile})
}
