package engine

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// Family is distributions that lay out alike what an installation touches. Where they lay out
// a daemon is in Software.Layouts, by Name.
type Family struct {
	Name string   // as in host.yaml
	IDs  []string // of os-release: its ID, or one of ID_LIKE

	Get      string            // installs the packages whose names follow
	Packages map[string]string // its names for Debian's, where they are others; "": what needs it has it

	Start   string // what starts a service, now and at boot, with SERVICE for its name
	Restart string // what restarts one
	Systemd bool
}

const (
	systemdStarts   = "systemctl enable --now SERVICE"
	systemdRestarts = "systemctl restart SERVICE"
)

// Families are those that are known; the first is what all settings are by default.
var Families = []*Family{
	{Name: "debian", IDs: []string{"debian", "ubuntu"}, Get: "apt-get install", Start: systemdStarts, Restart: systemdRestarts, Systemd: true},
	{
		Name: "rhel", IDs: []string{"rhel", "centos", "fedora"}, Get: "dnf install", Start: systemdStarts, Restart: systemdRestarts, Systemd: true,
		Packages: map[string]string{"libnginx-mod-stream": "nginx-mod-stream", "passwd": "shadow-utils", "procps": "procps-ng"},
	},
	{
		Name: "suse", IDs: []string{"suse", "opensuse"}, Get: "zypper install", Start: systemdStarts, Restart: systemdRestarts, Systemd: true,
		Packages: map[string]string{"libnginx-mod-stream": "", "passwd": "shadow"},
	},
	{
		Name: "alpine", IDs: []string{"alpine"}, Get: "apk add", Start: "rc-update add SERVICE && rc-service SERVICE start", Restart: "rc-service SERVICE restart",
		Packages: map[string]string{"libnginx-mod-stream": "nginx-mod-stream", "passwd": "shadow", "procps": "procps-ng", "util-linux": "util-linux-misc"},
	},
}

// FindFamily is the Family of a name; nil: none has it.
func FindFamily(name string) *Family {
	i := slices.IndexFunc(Families, func(f *Family) bool { return f.Name == name })
	if i < 0 {
		return nil
	}
	return Families[i]
}

// FamilyNames are those of all.
func FamilyNames() (names []string) {
	for _, f := range Families {
		names = append(names, f.Name)
	}
	return names
}

// Package is the family's name for a package of Debian's; "": what needs it has it.
func (f *Family) Package(debians string) string {
	if name, other := f.Packages[debians]; other {
		return name
	}
	return debians
}

// HowToStart is a command that starts a service, now and at boot.
func (f *Family) HowToStart(service string) string {
	return strings.ReplaceAll(f.Start, "SERVICE", service)
}

// HowToRestart is a command that restarts a service.
func (f *Family) HowToRestart(service string) string {
	return strings.ReplaceAll(f.Restart, "SERVICE", service)
}

// FamilyOf finds the one that an os-release is of; nil: none that is known. id is what the
// distribution calls itself.
func FamilyOf(osRelease string) (f *Family, id string) {
	values := map[string]string{}
	for line := range strings.Lines(osRelease) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[key] = strings.Trim(value, `"'`)
	}
	id = OneLine(cmp.Or(values["ID"], "linux")) // as os-release(5) has it
	for _, each := range append([]string{id}, strings.Fields(values["ID_LIKE"])...) {
		if i := slices.IndexFunc(Families, func(f *Family) bool { return slices.Contains(f.IDs, each) }); i >= 0 {
			return Families[i], id
		}
	}
	return nil, id
}

// osReleases are where a distribution says what it is: the first that is there.
var osReleases = []string{"/etc/os-release", "/usr/lib/os-release"}

// ThisFamily is FamilyOf this machine.
func ThisFamily() (*Family, string) {
	for _, path := range osReleases {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			break
		}
		text, err := io.ReadAll(io.LimitReader(f, 64<<10))
		if errors.Join(err, f.Close()) != nil {
			break
		}
		return FamilyOf(string(text))
	}
	return FamilyOf("")
}

// Layout is how a family's packages lay out a daemon, where that is not as in Debian's.
type Layout struct {
	Settings string // YAML: the defaults of the daemon's section of host.yaml
	Cannot   string // why the daemon cannot be prepared there; "": it can
}
