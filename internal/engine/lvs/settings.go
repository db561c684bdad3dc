package lvs

import (
	"path/filepath"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/keepalived"
)

// Settings are how the machine's keepalived is used to keep IPVS.
type Settings struct {
	keepalived.Settings
	Rules []string `json:"rules,omitempty"` // loads the packet filter's rules
}

// SetDefaults of what is not set.
func (s *Settings) SetDefaults(root, dir string, sudo bool) {
	s.Settings.SetDefaults(root, dir, sudo)
	engine.SetDefaultCommand(&s.Rules, sudo, "/usr/sbin/nft", "-f", filepath.Join(dir, rulesFile))
}
