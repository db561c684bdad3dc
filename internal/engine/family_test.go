package engine

import (
	"strings"
	"testing"
)

func TestFamilyOf(t *testing.T) {
	for name, c := range map[string]struct{ osRelease, family, id string }{
		"Debian":   {"PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nID=debian\n", "debian", "debian"},
		"Ubuntu":   {"ID=ubuntu\nID_LIKE=debian\n", "debian", "ubuntu"},
		"RHEL":     {"ID=\"rhel\"\nID_LIKE=\"fedora\"\n", "rhel", "rhel"},
		"Rocky":    {"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "rhel", "rocky"},
		"Alma":     {"ID='almalinux'\nID_LIKE='rhel centos fedora'", "rhel", "almalinux"},
		"SLES":     {"ID=\"sles\"\nID_LIKE=\"suse\"\n", "suse", "sles"},
		"Leap":     {"ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n", "suse", "opensuse-leap"},
		"Alpine":   {"  ID=alpine\r\n", "alpine", "alpine"},
		"unknown":  {"ID=nixos\n", "", "nixos"},
		"like one": {"ID=mine\nID_LIKE=\"other fedora\"\n", "rhel", "mine"},
		"nothing":  {"", "", "linux"},
		"nonsense": {"\x00=\nID", "", "linux"},
	} {
		f, id := FamilyOf(c.osRelease)
		if got := familyName(f); got != c.family || id != c.id {
			t.Errorf("%s: %q of family %q", name, id, got)
		}
	}
	if _, id := FamilyOf("ID=" + strings.Repeat("x", 1<<20)); len(id) > 1<<10 {
		t.Errorf("an ID of %d bytes is printed", len(id))
	}
}

func familyName(f *Family) string {
	if f == nil {
		return ""
	}
	return f.Name
}

func TestPackagesOfFamilies(t *testing.T) {
	for family, want := range map[string]string{"debian": "sudo procps", "rhel": "sudo procps-ng", "suse": "sudo procps", "alpine": "sudo procps-ng"} {
		f := FindFamily(family)
		if got := f.Package("sudo") + " " + f.Package("procps"); got != want {
			t.Errorf("%s: %s", family, got)
		}
	}
	if f := FindFamily("Debian"); f != nil {
		t.Errorf("found %s", f.Name)
	}
}
