package host

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/test/wait"
)

// The layouts of other families as trees, with this machine's own daemons: what these read
// lies where the packages of a family put it. docs/howto/other-distributions.md has the sources.

// enough of the owner's limits to carry a balancer.
const enough = "worker_rlimit_nofile 16384;\nevents { worker_connections 8192; }\n"

const (
	rocky  = "NAME=\"Rocky Linux\"\nID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"
	leap   = "NAME=\"openSUSE Leap\"\nID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n"
	alpine = "NAME=\"Alpine Linux\"\nID=alpine\n"
)

// becomes makes this machine's files those of another family, without nginx' own of Debian.
func becomes(t *testing.T, osRelease string, files map[string]string) {
	t.Helper()
	for _, dir := range []string{"modules-enabled", "sites-enabled", "conf.d"} {
		if err := os.RemoveAll("/etc/nginx/" + dir); err != nil {
			t.Fatal(err)
		}
	}
	files["/etc/os-release"] = osRelease
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(path, "/") {
			put(t, path, files[path])
		}
	}
	run(t, "useradd", "--system", "nginx")
}

const module = "/usr/lib/nginx/modules/ngx_stream_module.so"

// nginxTrees are main files with what they include, and what is added to them.
var nginxTrees = map[string]struct {
	osRelease string
	files     map[string]string
	added     map[string]string // to be found in files
	settings  string            // to be found in host.yaml
}{
	"rhel": {rocky, map[string]string{
		"/etc/nginx/nginx.conf": "user nginx;\nerror_log /var/log/nginx/error.log notice;\npid /run/nginx.pid;\ninclude /usr/share/nginx/modules/*.conf;\n" + enough +
			"http {\n    include /etc/nginx/conf.d/*.conf;\n    server { listen 80; }\n}\n",
		"/usr/share/nginx/modules/mod-stream.conf": "load_module \"" + module + "\";\n",
		"/etc/nginx/conf.d/":                       "",
	}, map[string]string{
		"/etc/nginx/nginx.conf":              "\nstream { include /etc/external-lb/nginx-stream.conf; }\n",
		"/etc/nginx/conf.d/external-lb.conf": "\ninclude /etc/external-lb/nginx-http.conf;\n",
		"/etc/external-lb/nginx-check.conf":  "load_module " + module + ";\n",
	}, ""},
	"suse": {leap, map[string]string{
		"/etc/nginx/nginx.conf": "# load_module lib64/nginx/modules/ngx_stream_module.so;\nerror_log /var/log/nginx/error.log; # as it is built there\n" + enough +
			"http {\n    include conf.d/*.conf;\n    server { listen 80; }\n    include vhosts.d/*.conf;\n}\n",
		"/etc/nginx/conf.d/": "", "/etc/nginx/vhosts.d/": "",
	}, map[string]string{
		"/etc/nginx/nginx.conf":              "\nstream { include /etc/external-lb/nginx-stream.conf; }\n",
		"/etc/nginx/conf.d/external-lb.conf": "\ninclude /etc/external-lb/nginx-http.conf;\n",
		"/etc/external-lb/nginx-check.conf":  "load_module " + module + ";\n",
	}, ""},
	"alpine": {alpine, map[string]string{
		"/etc/nginx/nginx.conf": "user nginx;\nerror_log /var/log/nginx/error.log warn;\npid /run/nginx/nginx.pid; # as it is built there\ninclude /etc/nginx/modules/*.conf;\ninclude /etc/nginx/conf.d/*.conf;\n" + enough +
			"http {\n    include /etc/nginx/http.d/*.conf;\n}\n",
		"/etc/nginx/modules/10_stream.conf": "load_module \"" + module + "\";\n",
		"/etc/nginx/conf.d/":                "",
		"/etc/nginx/http.d/default.conf":    "server { listen 80; }\n",
		"/run/nginx/":                       "",
	}, map[string]string{
		"/etc/nginx/conf.d/99-external-lb.conf": "\nstream { include /etc/external-lb/nginx-stream.conf; }\n",
		"/etc/nginx/http.d/external-lb.conf":    "\ninclude /etc/external-lb/nginx-http.conf;\n",
		"/etc/external-lb/nginx-check.conf":     "load_module " + module + ";\n",
	}, ""},
	// nginx' own package for Alpine writes its process id elsewhere than Alpine's, and has stream in it.
	"alpine with nginx.org's": {alpine, map[string]string{
		"/etc/nginx/nginx.conf": "load_module " + module + ";\nuser nginx;\nerror_log /var/log/nginx/error.log notice;\npid /var/run/nginx.pid;\n" + enough +
			"http {\n    include /etc/nginx/conf.d/*.conf;\n}\n",
		"/etc/nginx/conf.d/default.conf": "server { listen 80; }\n",
	}, map[string]string{
		"/etc/nginx/nginx.conf":              "\nstream { include /etc/external-lb/nginx-stream.conf; }\n",
		"/etc/nginx/conf.d/external-lb.conf": "\ninclude /etc/external-lb/nginx-http.conf;\n",
	}, "\nnginx:\n  pidFile: /run/nginx.pid\n"},
}

func TestInstall_OnLayoutsOfOtherFamilies(t *testing.T) {
	for name, tree := range nginxTrees {
		t.Run(name, func(t *testing.T) {
			onBareMachine(t, func(t *testing.T) {
				becomes(t, tree.osRelease, tree.files)
				startDaemon(t)
				options := InstallOptions{AuthorizedKeys: []string{aKey}, NonlocalBind: true}
				want := map[string]engine.StepResult{"family": engine.StepPresent, "include": engine.StepDone, "nginx": engine.StepDone}
				if got := install(t, options); !has(got, want) {
					t.Errorf("%v", got)
				}
				for path, text := range tree.added {
					if data, err := os.ReadFile(path); err != nil || !strings.Contains(string(data), text) {
						t.Errorf("%s: %v\n%s", path, err, data)
					}
				}
				if data, err := os.ReadFile(SettingsPath); err != nil || !strings.Contains(string(data), tree.settings) {
					t.Errorf("%s: %v\n%s", SettingsPath, err, data)
				}
				for name, result := range install(t, options) {
					if result != engine.StepPresent && name != "ports" && name != "agent" {
						t.Errorf("a second time: %s is %s", name, result)
					}
				}
				deliverAsAccount(t)
			})
		})
	}
}

// With OpenRC, what systemd's units do is done by scripts of its own. Programs in the place of
// OpenRC's do what matters of it: they note what they are told.
func TestInstall_WithOpenRC(t *testing.T) {
	onBareMachine(t, func(t *testing.T) {
		tree := nginxTrees["alpine"]
		tree.files["/run/openrc/options/external-lb-agent/"], tree.files["/etc/init.d/"], tree.files["/etc/runlevels/default/"] = "", "", ""
		becomes(t, tree.osRelease, tree.files)
		data, err := os.ReadFile(os.Args[0])
		if err != nil {
			t.Fatal(err)
		}
		program(t, installed, data)
		const log = "/tmp/openrc.log"
		program(t, "/usr/sbin/rc-update", []byte("#!/bin/sh\necho rc-update $* >>"+log+"\nln -s /etc/init.d/$2 /etc/runlevels/$3/$2\n"))
		program(t, "/usr/sbin/rc-service", []byte("#!/bin/sh\necho rc-service $* >>"+log+"\n"))
		startDaemon(t)
		if err := os.Remove("/usr/sbin/logrotate"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		options := InstallOptions{AuthorizedKeys: []string{aKey}}
		want := map[string]engine.StepResult{"restoring": engine.StepDone, "agent": engine.StepDone, "log": engine.StepDone, "logrotate": engine.StepWarning}
		if got := install(t, options); !has(got, want) {
			t.Errorf("%v", got)
		}
		rotation, err := os.ReadFile(agentRotation)
		if err != nil || !strings.Contains(string(rotation), "\n"+agentLog+" {\n") {
			t.Errorf("%v\n%s", err, rotation)
		}
		program(t, "/usr/sbin/logrotate", []byte("#!/bin/sh\n")) // nothing is to be told then
		const added = "rc-update add external-lb-restore default\nrc-update add external-lb-agent default\nrc-service external-lb-agent restart\n"
		told(t, log, added)
		for script, lines := range map[string][]string{
			openrcAgent: {"command=/usr/local/bin/external-lb\n", "command_user=external-lb:external-lb\n",
				"\tcheckpath --directory --owner external-lb:external-lb --mode 0750 /run/external-lb\n"},
			openrcRestore: {"\tbefore nginx\n", "\tsu external-lb -s /bin/sh -c \"/usr/local/bin/external-lb host restore\"\n"},
		} {
			path := openrcScripts + script
			run(t, "sh", "-n", path)
			text, err := os.ReadFile(path)
			for _, line := range lines {
				if err != nil || !strings.Contains(string(text), line) {
					t.Errorf("%s lacks %q: %v\n%s", path, line, err, text)
				}
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o755 {
				t.Errorf("%s: %v, %v", path, info, err)
			}
		}
		rights, err := os.ReadFile(sudoersPath)
		if err != nil || strings.Contains(string(rights), "systemctl") {
			t.Errorf("%v\n%s", err, rights)
		}

		agent := exec.CommandContext(t.Context(), installed, "-test.run=^TestIsAnAgent$")
		agent.Env = append(os.Environ(), "EXTERNAL_LB_TEST_AGENT=1")
		wait.True(t, "the settings are older than the agent", func() bool {
			info, err := os.Stat(SettingsPath)
			return err == nil && time.Since(info.ModTime()) > time.Second
		})
		input, err := agent.StdinPipe()
		if err := errors.Join(err, agent.Start()); err != nil {
			t.Fatal(err)
		}
		put(t, openrcAgentPID, strconv.Itoa(agent.Process.Pid)+"\n")
		for name, result := range install(t, options) {
			if result != engine.StepPresent && name != "ports" {
				t.Errorf("a second time: %s is %s", name, result)
			}
		}
		told(t, log, added)
		if err := errors.Join(input.Close(), agent.Wait()); err != nil {
			t.Error(err)
		}
	})
}

// told wants what programs have noted.
func told(t *testing.T, log, want string) {
	t.Helper()
	got, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

// TestIsAnAgent is a process of TestInstall_WithOpenRC, as long as that keeps its input open.
func TestIsAnAgent(t *testing.T) {
	if os.Getenv("EXTERNAL_LB_TEST_AGENT") != "" {
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			t.Fatal(err)
		}
	}
}

// has reports whether all of want is in got.
func has(got, want map[string]engine.StepResult) bool {
	for name, result := range want {
		if got[name] != result {
			return false
		}
	}
	return true
}

func TestInstall_HAProxyOnLayoutsOfOtherFamilies(t *testing.T) {
	const live = "-f /var/lib/external-lb/haproxy/live/haproxy.cfg"
	for name, tree := range map[string]struct {
		osRelease string
		files     map[string]string
		line      string // of /etc/sysconfig/haproxy
		start     string // as the family's unit does
	}{
		"rhel": {rocky, map[string]string{
			"/etc/sysconfig/haproxy":      "# more options\nOPTIONS=\"\"\n",
			"/etc/haproxy/conf.d/own.cfg": "listen own\n    bind 127.0.0.1:99\n    mode tcp\n    timeout client 1s\n    timeout server 1s\n    timeout connect 1s\n",
		}, "\nOPTIONS=\"" + live + "\"\n", "haproxy -W -D -f /etc/haproxy/haproxy.cfg -f /etc/haproxy/conf.d -p /run/haproxy.pid $OPTIONS"},
		"suse": {leap, map[string]string{"/etc/sysconfig/": "", "/run/haproxy/": ""},
			"\nEXTRAOPTS=\"-S /run/haproxy/master.sock " + live + "\"\n", "haproxy -W -D -f /etc/haproxy/haproxy.cfg -p /run/haproxy/pid $EXTRAOPTS"},
	} {
		t.Run(name, func(t *testing.T) {
			onBareMachine(t, func(t *testing.T) {
				becomes(t, tree.osRelease, tree.files)
				options := InstallOptions{Engine: "haproxy", AuthorizedKeys: []string{aKey}}
				install(t, options)
				if text, err := os.ReadFile("/etc/sysconfig/haproxy"); err != nil || !strings.Contains(string(text), tree.line) {
					t.Errorf("%v\n%s", err, text)
				}
				run(t, "sh", "-ec", "mkdir -p /run/haproxy; . /etc/sysconfig/haproxy; "+tree.start+" >/dev/null 2>&1 </dev/null")
				s, err := LoadSettings(SettingsPath, &engines.Table)
				if err != nil {
					t.Fatal(err)
				}
				b := &box{T: t}
				b.take(agentOf(t, s))
				wait.For(t, func(ctx context.Context) error { _, err := b.haproxy().Ask(ctx); return err })
				for name, result := range install(t, options) {
					if result != engine.StepPresent && name != "agent" {
						t.Errorf("a second time: %s is %s", name, result)
					}
				}
				at := local(t)
				b.apply(haproxySet(t, carried(t, "web", "one", at)))
				b.says(at, "one")
			})
		})
	}
}

func TestInstall_SaysWhatItTakesAMachineFor(t *testing.T) {
	onBareMachine(t, func(t *testing.T) {
		put(t, "/etc/os-release", "ID=nixos\n")
		steps, err := Install(t.Context(), InstallOptions{DryRun: true}, &engines.Table)
		if err != nil {
			t.Fatal(err)
		}
		const unknown = "nixos is of no family that is known (debian, rhel, suse, alpine), and is taken for debian: if its files lie elsewhere, give --family, or write their paths into /etc/external-lb/host.yaml and run this again"
		if said := steps[0]; said != (Step{"family", engine.StepWarning, unknown}) {
			t.Errorf("%+v", said)
		}
		if steps, err = Install(t.Context(), InstallOptions{DryRun: true, Family: "nix"}, &engines.Table); err == nil || !strings.Contains(err.Error(), `family "nix": want one of debian, rhel, suse, alpine`) {
			t.Errorf("%v, %v", steps, err)
		}
		startDaemon(t)
		install(t, InstallOptions{Family: "rhel"})
		s, err := LoadSettings(SettingsPath, &engines.Table)
		if err != nil || s.Family != "rhel" {
			t.Errorf("family %q, %v", s.Family, err)
		}
		if steps, err = Install(t.Context(), InstallOptions{Family: "suse"}, &engines.Table); err == nil || !strings.Contains(err.Error(), "is laid out as rhel, not suse") {
			t.Errorf("%v, %v", steps, err)
		}
	})
}

// What is missing has the family's names, before anything is changed.
func TestInstall_SaysWhatIsMissingAsTheFamilyDoes(t *testing.T) {
	for name, c := range map[string]struct{ osRelease, engine, prepare, want string }{
		"rhel": {rocky, "", "rm /usr/sbin/useradd", "packages: missing: dnf install shadow-utils nginx-mod-stream"},
		// BusyBox has programs by these names, which know less.
		"alpine": {alpine, "lvs", "cp /bin/true /bin/busybox; ln -sf /bin/busybox /usr/bin/pkill; ln -sf /bin/busybox /usr/bin/unshare; rm /usr/sbin/keepalived",
			"packages: missing: apk add keepalived procps-ng util-linux-misc"},
		"haproxy": {alpine, "haproxy", "true",
			"packages: Alpine's service of HAProxy reads one file, and has no master that could be told to reload: take another engine here"},
	} {
		t.Run(name, func(t *testing.T) {
			onBareMachine(t, func(t *testing.T) {
				becomes(t, c.osRelease, map[string]string{"/etc/nginx/nginx.conf": enough + "http { }\n"})
				run(t, "sh", "-ec", c.prepare)
				if steps, err := Install(t.Context(), InstallOptions{Engine: c.engine}, &engines.Table); err == nil || err.Error() != c.want {
					t.Errorf("%v, %v", err, steps)
				}
				if _, err := os.Stat(SettingsPath); err == nil {
					t.Error("something was changed")
				}
			})
		})
	}
}

// What a machine's policy must allow is said, and done by nobody.
func TestInstall_SaysWhatConfinesTheDaemons(t *testing.T) {
	for name, c := range map[string]struct {
		osRelease string
		files     map[string]string
		options   InstallOptions
		want      []string
	}{
		"SELinux with nginx and VRRP": {rocky, map[string]string{"/sys/fs/selinux/enforce": "1"}, InstallOptions{VRRP: true}, []string{
			"SELinux: as root, once: setsebool -P httpd_can_network_connect on",
			"SELinux: as root, once: semanage port -a -t http_port_t -p tcp 776",
			"SELinux: as root, for each port that Services have, but 80 and 443: semanage port -a -t http_port_t -p tcp PORT",
			"SELinux: as root, once: setsebool -P keepalived_connect_any on",
			"SELinux: as root, once: semanage fcontext -a -t etc_t '/var/lib/external-lb/keepalived(/.*)?'",
			"SELinux: as root, after this: restorecon -R /var/lib/external-lb /etc/external-lb; semanage is of the package policycoreutils-python-utils, and `ausearch -m AVC -ts recent` says what else is denied",
		}},
		"SELinux with HAProxy": {rocky, map[string]string{"/sys/fs/selinux/enforce": "1", "/etc/haproxy/conf.d/": ""}, InstallOptions{Engine: "haproxy"}, []string{
			"SELinux: as root, once: setsebool -P haproxy_connect_any on",
			"SELinux: as root, once: semanage fcontext -a -t haproxy_var_lib_t '/var/lib/external-lb/haproxy(/.*)?'",
			"SELinux: as root, after this: restorecon -R /var/lib/external-lb /etc/external-lb; semanage is of the package policycoreutils-python-utils, and `ausearch -m AVC -ts recent` says what else is denied",
		}},
		"permissive": {rocky, map[string]string{"/sys/fs/selinux/enforce": "0"}, InstallOptions{}, nil},
		"AppArmor": {leap, map[string]string{"/etc/apparmor.d/usr.sbin.haproxy": "profile\n"}, InstallOptions{Engine: "haproxy"}, []string{
			"AppArmor: add the line `/var/lib/external-lb/haproxy/** r, /var/lib/external-lb/haproxy.sock* rwl,` to /etc/apparmor.d/local/usr.sbin.haproxy, then: apparmor_parser -r /etc/apparmor.d/usr.sbin.haproxy",
		}},
		"AppArmor that lets it": {leap, map[string]string{
			"/etc/apparmor.d/usr.sbin.haproxy":       "profile\n",
			"/etc/apparmor.d/local/usr.sbin.haproxy": "# ours\n/var/lib/external-lb/haproxy/** r, /var/lib/external-lb/haproxy.sock* rwl,\n",
		}, InstallOptions{Engine: "haproxy"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			onBareMachine(t, func(t *testing.T) {
				files := c.files
				files["/etc/nginx/nginx.conf"] = "load_module " + module + ";\n" + enough + "http { }\n"
				becomes(t, c.osRelease, files)
				c.options.DryRun = true
				steps, err := Install(t.Context(), c.options, &engines.Table)
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, s := range steps {
					if s.Name == "SELinux" || s.Name == "AppArmor" {
						got = append(got, s.Name+": "+s.Detail)
					}
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}
