package host

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
)

const (
	selinuxEnforces  = "/sys/fs/selinux/enforce" // says 1 where it does
	appArmorProfiles = "/etc/apparmor.d/"
)

// confinement says what a machine that confines its daemons must let them do. What a policy
// allows is its owner's to decide, so it is said and not done; before a daemon would fail by it.
func (in *installer) confinement(context.Context) error {
	const selinux, appArmor = "SELinux", "AppArmor"
	enforce, _ := os.ReadFile(selinuxEnforces) // there is none
	enforced := strings.TrimSpace(string(enforce)) == "1"
	for _, p := range in.parts {
		confined, ok := p.Installer.(engine.Confined)
		if !ok {
			continue
		}
		c := confined.Confinement()
		if enforced {
			for _, command := range c.SELinux {
				in.Report(selinux, engine.StepWarning, "as root, once: "+command)
			}
			if c.PerPort != "" {
				in.Report(selinux, engine.StepWarning, "as root, for each port that Services have, but 80 and 443: "+c.PerPort)
			}
		}
		path := appArmorProfiles + c.Profile
		if _, err := os.Stat(path); c.Profile == "" || err != nil {
			continue
		}
		local := appArmorProfiles + "local/" + c.Profile
		have, _ := os.ReadFile(local) // it may be missing
		if rules := strings.Join(c.Rules, " "); !strings.Contains(string(have), rules) {
			in.Report(appArmor, engine.StepWarning, "add the line `"+rules+"` to "+local+", then: apparmor_parser -r "+path)
		}
	}
	if enforced {
		in.Report(selinux, engine.StepWarning, "as root, after this: restorecon -R "+in.settings.Root+" "+filepath.Dir(in.settingsPath)+
			"; semanage is of the package policycoreutils-python-utils, and `ausearch -m AVC -ts recent` says what else is denied")
	}
	return nil
}
