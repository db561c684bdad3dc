package release

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Architectures have other names elsewhere.
var ofRPM = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}

// installDeb installs a package in a directory, and returns what it said.
func installDeb(t *testing.T, dir, arch string) string {
	t.Helper()
	for _, name := range []string{"info", "updates"} {
		if err := os.MkdirAll(filepath.Join(dir, "var/lib/dpkg", name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"status", "available"} {
		write(t, filepath.Join(dir, "var/lib/dpkg", name), "")
	}
	return dpkg(t, dir, "--force-architecture", "--install", filepath.Join(built(t), "external-lb_"+number+"_"+arch+".deb"))
}

// dpkg works on the packages of a directory, whose scripts must keep to it.
func dpkg(t *testing.T, dir string, args ...string) string {
	t.Helper()
	return run(t, ".", append([]string{"dpkg", "--root=" + dir, "--log=/dev/null", "--force-script-chrootless"}, args...)...)
}

func TestDebsInstall(t *testing.T) {
	for _, arch := range architectures {
		dir := t.TempDir()
		if said := installDeb(t, dir, arch); !strings.Contains(said, "external-lb host install --authorized-key") {
			t.Errorf("it does not say what to do:\n%s", said)
		}
		got := run(t, ".", "dpkg-query", "--admindir="+dir+"/var/lib/dpkg", "--show", "--showformat=${Package} ${Version} ${Architecture}\n")
		if got != "external-lb "+number+" "+arch+"\n" {
			t.Errorf("installed is %q", got)
		}
		isWhole(t, dir, arch, "vendor-completions")
		write(t, filepath.Join(dir, "etc/external-lb/host.yaml"), "engine: nginx\n")
		if said := dpkg(t, dir, "--remove", "external-lb"); !strings.Contains(said, "what this host carries goes on") {
			t.Errorf("it does not say what becomes of the host:\n%s", said)
		}
		if left, err := filepath.Glob(dir + "/usr/*/*"); err != nil || len(left) != 0 {
			t.Errorf("left are %v, %v", left, err)
		}
	}
}

func TestRPMsInstall(t *testing.T) {
	for _, arch := range architectures {
		dir := t.TempDir()
		file := filepath.Join(built(t), "external-lb-"+number+"-1."+ofRPM[arch]+".rpm")
		// There is no shell in the directory, nor are there other packages.
		run(t, ".", "rpm", "--root", dir, "--upgrade", "--ignorearch", "--noscripts", "--nodeps", file)
		if got := run(t, ".", "rpm", "--root", dir, "--query", "--all"); got != "external-lb-"+number+"-1."+ofRPM[arch]+"\n" {
			t.Errorf("installed is %q", got)
		}
		run(t, ".", "rpm", "--root", dir, "--verify", "--nodeps", "--noscripts", "external-lb")
		isWhole(t, dir, arch, "site-functions")
		scripts := run(t, ".", "rpm", "--query", "--scripts", "--package", file)
		for _, name := range []string{"postinstall", "preremove"} {
			if script := string(read(t, "../../tools/release", name+".sh")); !strings.Contains(scripts, script) {
				t.Errorf("%s is not in:\n%s", name, scripts)
			}
		}
	}
}

// isWhole wants the host's end, with all that comes with a program, in a directory. Where zsh
// looks is each distribution's own.
func isWhole(t *testing.T, dir, arch, zsh string) {
	t.Helper()
	if !bytes.Equal(read(t, dir, "usr/bin/external-lb"), read(t, built(t), "external-lb-linux-"+arch)) {
		t.Errorf("the package for %s has another program", arch)
	}
	if arch == runtime.GOARCH { // by its name as a plugin, too
		for _, name := range []string{"external-lb", "kubectl-external_lb"} {
			if out := run(t, ".", filepath.Join(dir, "usr/bin", name), "version"); !strings.HasPrefix(out, "external-lb "+version+" ") {
				t.Errorf("it says %q", out)
			}
		}
	}
	unit := string(read(t, dir, "usr/lib/systemd/system/external-lb-agent.service"))
	if unit != string(read(t, root, "internal/host/external-lb-agent.service")) || // which systemd takes: see there
		!strings.Contains(unit, "\nExecStart=/usr/bin/external-lb host agent\n") {
		t.Errorf("the agent's unit is:\n%s", unit)
	}
	for _, completion := range []string{
		"bash-completion/completions/external-lb", "zsh/" + zsh + "/_external-lb", "fish/vendor_completions.d/external-lb.fish",
	} {
		if !strings.Contains(string(read(t, dir, "usr/share", completion)), "external-lb") {
			t.Errorf("no completions in %s", completion)
		}
	}
	manual := run(t, dir, "gzip", "-dc", "usr/share/man/man8/external-lb.8.gz")
	for _, want := range []string{".TH EXTERNAL-LB 8 ", version, "\n.SH EXTERNAL-LB HOST INSTALL\n", "\n.nf\n", `\-\-authorized\-key`} {
		if !strings.Contains(manual, want) {
			t.Errorf("the manual lacks %q:\n%.2000s", want, manual)
		}
	}
}

// A package says what to do next, and to a host that is prepared something else.
func TestPackagesSayWhatToDo(t *testing.T) {
	dir := t.TempDir()
	says := func(script, argument string, want bool, text string) {
		t.Helper()
		got := run(t, "../../tools/release", "env", "DPKG_ROOT="+dir, "sh", script, argument)
		if strings.Contains(got, text) != want {
			t.Errorf("%s %s says %q", script, argument, got)
		}
	}
	says("postinstall.sh", "configure", true, "external-lb host install --authorized-key")
	says("preremove.sh", "remove", false, "external-lb")
	write(t, filepath.Join(dir, "etc/external-lb/host.yaml"), "engine: nginx\n")
	says("postinstall.sh", "2", true, "external-lb host status")
	says("postinstall.sh", "2", false, "--authorized-key")
	says("postinstall.sh", "2", false, "/usr/local/bin")
	says("preremove.sh", "0", true, "goes on")
	for _, upgrade := range []string{"upgrade", "1"} {
		says("preremove.sh", upgrade, false, "external-lb")
	}
	write(t, filepath.Join(dir, "usr/local/bin/external-lb"), "")
	says("postinstall.sh", "configure", true, "/usr/local/bin")
}

// write a file, in a directory that need not be there.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
