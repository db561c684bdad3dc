package host

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/engine/engines"
)

// A machine where the program was copied by hand gets it as a package. Whatever starts it has
// the package's path then: else keys would run a program that is gone, and sudo refuse one.
func TestInstall_OfAPackage(t *testing.T) {
	onBareMachine(t, func(t *testing.T) {
		if err := os.MkdirAll(systemdRuns, 0o755); err != nil {
			t.Fatal(err)
		}
		program(t, "/usr/bin/systemctl", []byte("#!/bin/sh\n")) // does what it is told
		startDaemon(t)
		install(t, InstallOptions{AuthorizedKeys: []string{aKey}})
		mentions(t, installed, packaged)

		data, err := os.ReadFile(os.Args[0])
		if err != nil {
			t.Fatal(err)
		}
		program(t, packaged, data)
		put(t, packagedUnits+agentService, string(packagedAgent))
		if err := os.Symlink(packaged, "/usr/bin/kubectl-external_lb"); err != nil { // as the package has it
			t.Fatal(err)
		}
		out := run(t, "env", "EXTERNAL_LB_TEST_PACKAGED=1", "/usr/bin/kubectl-external_lb", "-test.v", "-test.count=1", "-test.run=^TestFromThePackage$")
		if !strings.Contains(out, "--- PASS: TestFromThePackage") {
			t.Error(out)
		}
		mentions(t, packaged, installed)
		unitsAreTaken(t)
		if _, err := os.Lstat(systemdUnits + agentService); err == nil {
			t.Error("the package's unit is hidden by the one from before")
		}
	})
}

// TestFromThePackage is a part of TestInstall_OfAPackage, and has nothing to do elsewhere.
func TestFromThePackage(t *testing.T) {
	if os.Getenv("EXTERNAL_LB_TEST_PACKAGED") == "" {
		return
	}
	install(t, InstallOptions{})
	// And the agent asks sudo for what its rules allow.
	s, err := LoadSettings(SettingsPath, &engines.Table)
	if err != nil || s.program != packaged {
		t.Errorf("the agent takes itself for %s, %v", s.program, err)
	}
}

// program makes an executable file.
func program(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// mentions wants all that starts the program to do so by one path.
func mentions(t *testing.T, path, not string) {
	t.Helper()
	for _, file := range []string{"/var/lib/external-lb/.ssh/authorized_keys", sudoersPath, unitFile(agentService), unitFile(restoreService)} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		if !strings.Contains(string(text), path+" host ") || strings.Contains(string(text), not) {
			t.Errorf("%s does not start %s:\n%s", file, path, text)
		}
	}
}

// unitFile is the one that systemd takes.
func unitFile(unit string) string {
	for _, dir := range []string{systemdUnits, packagedUnits} {
		if _, err := os.Stat(dir + unit); err == nil {
			return dir + unit
		}
	}
	return unit
}

// unitsAreTaken by systemd as they are, where it is there to be asked.
func unitsAreTaken(t *testing.T) {
	t.Helper()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		return
	}
	for _, unit := range []string{agentService, restoreService} {
		if out := run(t, analyze, "verify", "--man=no", unitFile(unit)); out != "" {
			t.Errorf("%s: %s", unit, out)
		}
	}
}
