package host

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/test/wait"
)

// leastShare is a quarter of the clients that one worker holds once its settings carry a balancer.
const leastShare = 8192 / 2 / 4

// With the owner's settings as Debian has them, one busy Service stops all others.
func TestAHostThatDoesNotCarryABalancerIsNotReady(t *testing.T) {
	onBareMachine(t, func(t *testing.T) {
		options := InstallOptions{AuthorizedKeys: []string{aKey}}
		run(t, "sed", "-i", "/worker_rlimit_nofile/d; s/worker_connections 8192/worker_connections 768/", "/etc/nginx/nginx.conf")
		steps, err := Install(t.Context(), options, &engines.Table)
		if err == nil || !strings.Contains(err.Error(), "write `worker_connections 8192;` instead of 768 at /etc/nginx/nginx.conf:") ||
			!strings.Contains(err.Error(), "write `worker_rlimit_nofile 16384;` as the first line of /etc/nginx/nginx.conf") {
			t.Fatal(err)
		}
		if last := steps[len(steps)-1]; last.Name != "limits" || last.Result != engine.StepFailed {
			t.Errorf("%+v", last)
		}
		settings, err := LoadSettings(SettingsPath, &engines.Table)
		if err != nil || settings.ConnectionsPerService < leastShare {
			t.Errorf("a Service may have %d connections, %v", settings.ConnectionsPerService, err)
		}
		run(t, "sed", "-i", "1i worker_rlimit_nofile 16384;", "/etc/nginx/nginx.conf")
		run(t, "sed", "-i", "s/worker_connections 768/worker_connections 8192/", "/etc/nginx/nginx.conf")
		for name, result := range install(t, options) {
			if result == engine.StepDone {
				t.Errorf("%s was not done before", name)
			}
		}
	})
}

func TestInstall(t *testing.T) {
	onBareMachine(t, func(t *testing.T) {
		keyFile := filepath.Join(t.TempDir(), "key.pub")
		put(t, keyFile, "# ours\n"+aKey+"\n")
		options := InstallOptions{AuthorizedKeys: []string{keyFile, otherKey}, NonlocalBind: true, DryRun: true}
		startDaemon(t)

		for name, result := range install(t, options) {
			if result == engine.StepDone || result == engine.StepFailed {
				t.Errorf("dry run: %s is %s", name, result)
			}
		}
		if _, err := os.Stat("/etc/external-lb"); err == nil {
			t.Error("the dry run has made /etc/external-lb")
		}

		options.DryRun = false
		want := map[string]engine.StepResult{
			"family": engine.StepPresent, "packages": engine.StepPresent, "directory": engine.StepDone, "settings": engine.StepDone, "user": engine.StepDone, "check configuration": engine.StepDone,
			"include file": engine.StepDone, "certificates": engine.StepDone, "first configuration": engine.StepDone, "include": engine.StepDone, "sudo rights": engine.StepDone,
			"authorized keys": engine.StepDone, "sysctl": engine.StepDone, "nginx": engine.StepDone, "ports": engine.StepWarning, "first model": engine.StepDone, "agent": engine.StepWarning,
		}
		if diff := cmp.Diff(want, install(t, options)); diff != "" {
			t.Error(diff)
		}
		for name := range want {
			if name != "ports" && name != "agent" { // no systemd runs there
				want[name] = engine.StepPresent
			}
		}
		if diff := cmp.Diff(want, install(t, options)); diff != "" {
			t.Errorf("again: %s", diff)
		}
		// sshd reads the keys as the account
		if err := os.Chmod("/var/lib/external-lb/.ssh/authorized_keys", 0o600); err != nil {
			t.Fatal(err)
		}
		want["authorized keys"] = engine.StepDone
		if diff := cmp.Diff(want, install(t, options)); diff != "" {
			t.Errorf("after keys that the account cannot read: %s", diff)
		}
		checkInstalled(t)
		deliverAsAccount(t)
		logIn(t)
	})
}

func checkInstalled(t *testing.T) {
	keys, err := os.ReadFile("/var/lib/external-lb/.ssh/authorized_keys")
	if err != nil {
		t.Fatal(err)
	}
	const line = `restrict,command="/usr/local/bin/external-lb host serve" `
	if diff := cmp.Diff(line+aKey+"\n"+line+otherKey+"\n", string(keys)); diff != "" {
		t.Error(diff)
	}
	rights, err := os.ReadFile(sudoersPath)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("# Made by `external-lb host install`: what the account may do as root.\n"+
		"Defaults:external-lb !pam_session\n"+
		"external-lb ALL=(root) NOPASSWD: /usr/sbin/nginx -t -q -c /etc/external-lb/nginx-check.conf\n"+
		"external-lb ALL=(root) NOPASSWD: /usr/sbin/nginx -t -q -c /etc/nginx/nginx.conf\n"+
		"external-lb ALL=(root) NOPASSWD: /usr/sbin/nginx -s reload\n"+
		"external-lb ALL=(root) NOPASSWD: /usr/bin/tail -c 65536 /var/log/nginx/error.log\n"+
		"external-lb ALL=(root) NOPASSWD: /usr/local/bin/external-lb host preview /var/lib/external-lb/nginx /usr/sbin/nginx -t -q -c /etc/nginx/nginx.conf\n"+
		"external-lb ALL=(root) NOPASSWD: /usr/bin/systemctl start nginx.service\n"+
		"external-lb ALL=(root) NOPASSWD: /usr/local/bin/external-lb host end-old-workers\n", string(rights)); diff != "" {
		t.Error(diff)
	}
}

// deliverAsAccount delivers as the account does: with few rights.
func deliverAsAccount(t *testing.T) {
	u, err := user.Lookup(account)
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		t.Fatal(err)
	}
	binary := installed
	data, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(binary, data, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "-test.v", "-test.run=^TestAsTheAccount$")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	cmd.Env = append(os.Environ(), "HOME=/var/lib/external-lb", "TMPDIR=/tmp", "EXTERNAL_LB_TEST_ACCOUNT=1")
	cmd.Dir = "/"
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestAsTheAccount") {
		t.Errorf("%v\n%s", err, out)
	}
	// And root looks at what the account has delivered.
	settings, err := LoadSettings(SettingsPath, &engines.Table)
	if err != nil {
		t.Fatal(err)
	}
	st, err := agentOf(t, settings).Status(t.Context())
	if err != nil || st.Generation == "" || !st.Proved || st.Message != "" {
		t.Errorf("status: %+v, %v", st, err)
	}
}

// TestAsTheAccount delivers with the settings of the machine. It is a part of
// TestInstall, and has nothing to do elsewhere.
func TestAsTheAccount(t *testing.T) {
	if os.Getenv("EXTERNAL_LB_TEST_ACCOUNT") == "" {
		return
	}
	settings, err := LoadSettings(SettingsPath, &engines.Table)
	if err != nil {
		t.Fatal(err)
	}
	b := &box{T: t}
	b.take(agentOf(t, settings))
	if m := b.status().message; m != "" {
		t.Errorf("message: %s", m)
	}
	at := netip.MustParseAddrPort("127.0.0.1:81") // a port for which root is needed
	all := set(t, service(t, "web", "one", at), broken(t, "bad"), service(t, "site", "x", netip.MustParseAddrPort("127.0.0.1:80")),
		service(t, "elsewhere", "elsewhere", netip.MustParseAddrPort("192.0.2.77:81")))
	out := b.apply(all)
	if diff := cmp.Diff([]string{"services/bad.conf", "services/site.conf"}, out.paths()); diff != "" {
		t.Error(diff)
	}
	b.says(at, "one")
	if reason := out.Refused[1].Reason; !strings.Contains(reason, "/etc/nginx/sites-enabled/default") {
		t.Errorf("reason: %s", reason)
	}
	b.apply(set(t, service(t, "web", "two", at)))
	b.says(at, "two")
	main, err := fileset.NewFile("main.conf", []byte("limit_conn_zone $remote_addr zone=a:32k;\n"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := fileset.NewFile("main.conf", []byte("limit_conn_zone $remote_port zone=a:32k;\n"))
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range []fileset.File{main, other} {
		s, err := fileset.New(f)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			b.apply(s)
			continue
		}
		// Only the error log tells why a reload fails.
		if e := b.fails(CodeRolledBack, b.order(s)); !strings.Contains(e.Message, `while previously it used the "$remote_addr" key`) {
			t.Errorf("message: %s", e.Message)
		}
	}
}

// logIn uses a key as the controller does: whatever it asks for, the forced command runs.
func logIn(t *testing.T) {
	dir := t.TempDir()
	put(t, "/usr/local/bin/forced", "#!/bin/sh\necho \"$(id -un) runs $*\"\n")
	if err := os.Chmod("/usr/local/bin/forced", 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", dir+"/key")
	run(t, "sh", "-c", "test -e /etc/ssh/ssh_host_ed25519_key || ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key")
	run(t, "/usr/sbin/sshd", "-p", "2222", "-o", "UsePAM=no", "-E", dir+"/log")
	install(t, InstallOptions{AuthorizedKeys: []string{dir + "/key.pub"}, Command: "/usr/local/bin/forced"})
	wait.True(t, "sshd listens", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:2222")
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	ssh := func(argv ...string) (string, error) {
		argv = append([]string{"-o", "LogLevel=ERROR", "-p", "2222", "-i", dir + "/key", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
			"-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes"}, argv...)
		cmd := exec.CommandContext(t.Context(), "ssh", argv...)
		var said strings.Builder
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, said.String())
		}
		return string(out), err
	}
	at := account + "@127.0.0.1"
	for what, argv := range map[string][]string{
		"a command": {at, "cat /etc/shadow"}, "a shell": {at}, "files": {"-s", at, "sftp"},
		"variables": {"-o", "SetEnv=LC_ALL=x PATH=/tmp BASH_ENV=/tmp/x", at}, "the agent and X11": {"-A", "-X", at},
	} {
		said, err := ssh(argv...)
		if said = strings.ReplaceAll(said, "\r", ""); err != nil || said != "external-lb runs host serve\n" {
			log, _ := os.ReadFile(dir + "/log")
			t.Errorf("%s: the host says %q, %v\n%s", what, said, err, log)
		}
	}
	for what, argv := range map[string][]string{
		"a way to a port": {"-W", "127.0.0.1:2222", at}, "a port": {"-R", "127.0.0.1:9998:127.0.0.1:2222", at}, "a socket": {"-R", "/tmp/s:127.0.0.1:2222", at},
		"a network device": {"-w", "any", at}, "a terminal": {"-tt", at},
	} {
		if said, err := ssh(argv...); err == nil {
			t.Errorf("the key gets %s: %q", what, said)
		}
	}
}

func TestInstallKeepsTheOwnersStreamBlock(t *testing.T) {
	onBareMachine(t, func(t *testing.T) {
		if err := os.Remove("/etc/nginx/sites-enabled/default"); err != nil {
			t.Fatal(err)
		}
		put(t, "/etc/nginx/stream.conf", "# stream {\nstream {\n    server { listen 127.0.0.1:99; return owner; }\n}\n")
		conf, err := os.ReadFile("/etc/nginx/nginx.conf")
		if err != nil {
			t.Fatal(err)
		}
		put(t, "/etc/nginx/nginx.conf", string(conf)+"include /etc/nginx/stream.conf;\n")
		defer hidden(t, "/etc/nginx/stream.conf")()
		startDaemon(t)
		for range 2 {
			install(t, InstallOptions{AuthorizedKeys: []string{aKey}})
		}
		have, err := os.ReadFile("/etc/nginx/stream.conf")
		if err != nil {
			t.Fatal(err)
		}
		want := "# stream {\nstream {\n    include /etc/external-lb/nginx-stream.conf;\n    server { listen 127.0.0.1:99; return owner; }\n}\n"
		if diff := cmp.Diff(want, string(have)); diff != "" {
			t.Error(diff)
		}
		const beside = "/etc/nginx/conf.d/external-lb.conf" // which Debian's http block includes
		if text, err := os.ReadFile(beside); err != nil || !strings.Contains(string(text), "\ninclude /etc/external-lb/nginx-http.conf;\n") {
			t.Errorf("%s: %q, %v", beside, text, err)
		}
		if said := hear(netip.MustParseAddrPort("127.0.0.1:99")); said != "owner" {
			t.Errorf("the owner's server says %q", said)
		}
	})
}

func TestInstallWithoutModulesEnabled(t *testing.T) {
	onBareMachine(t, func(t *testing.T) {
		const owners = "worker_rlimit_nofile 16384;\nload_module modules/ngx_stream_module.so;\npid /run/nginx.pid;\nevents { worker_connections 8192; }\n"
		put(t, "/etc/nginx/nginx.conf", owners)
		startDaemon(t)
		for range 2 {
			install(t, InstallOptions{AuthorizedKeys: []string{aKey}})
		}
		have, err := os.ReadFile("/etc/nginx/nginx.conf")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(owners+"\nstream { include /etc/external-lb/nginx-stream.conf; }\n\nhttp { include /etc/external-lb/nginx-http.conf; }\n", string(have)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestInstallSaysWhatIsMissing(t *testing.T) {
	onBareMachine(t, func(t *testing.T) {
		for _, path := range []string{"/etc/nginx/modules-enabled/50-mod-stream.conf", "/usr/bin/sudo", "/usr/sbin/visudo"} {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		steps, err := Install(t.Context(), InstallOptions{}, &engines.Table)
		if err == nil || err.Error() != "packages: missing: apt-get install sudo libnginx-mod-stream" {
			t.Errorf("error: %v, steps: %v", err, steps)
		}
	})
}

func TestInstallKeepsSettings(t *testing.T) {
	onBareMachine(t, func(t *testing.T) {
		if err := os.MkdirAll("/etc/external-lb", 0o755); err != nil {
			t.Fatal(err)
		}
		const mine = "# mine\nroot: /srv/lb\nnginx:\n  proof: 127.0.0.5:777\n"
		put(t, SettingsPath, mine)
		startDaemon(t)
		install(t, InstallOptions{AuthorizedKeys: []string{aKey}})
		if have, err := os.ReadFile(SettingsPath); err != nil || string(have) != mine {
			t.Errorf("settings: %s, %v", have, err)
		}
		if _, err := os.Stat("/srv/lb/nginx/live/proof.conf"); err != nil {
			t.Error(err)
		}

		put(t, SettingsPath, "nonsense: true\n")
		if _, err := Install(t.Context(), InstallOptions{}, &engines.Table); err == nil || !strings.Contains(err.Error(), "nonsense") {
			t.Errorf("error: %v", err)
		}
	})
}

func TestInstallUnlocksTheAccount(t *testing.T) {
	onBareMachine(t, func(t *testing.T) {
		run(t, "useradd", "--system", "--user-group", "--home-dir", "/var/lib/external-lb", "--shell", "/usr/sbin/nologin", account)
		if r := install(t, InstallOptions{AuthorizedKeys: []string{aKey}}); r["user"] != engine.StepDone || r["nginx"] != engine.StepWarning {
			t.Errorf("results: %v", r)
		}
		if shell, password := field("/etc/passwd", 6), field("/etc/shadow", 1); shell != "/bin/sh" || password != "*" {
			t.Errorf("shell %s, password %s", shell, password)
		}
		if r := install(t, InstallOptions{AuthorizedKeys: []string{aKey}}); r["user"] != engine.StepPresent {
			t.Errorf("results: %v", r)
		}
	})
}

// No rule allows more than its command says: sudo itself is asked.
func TestRulesOfSudoAreExact(t *testing.T) {
	onBareMachine(t, func(t *testing.T) {
		run(t, "useradd", "--system", account)
		odd := []string{"/usr/bin/echo", "a b", "c*", "d?", "[ef]", "!g", "^h$", "i,j:k=l", "m#n", `o\p`}
		text := ""
		for _, command := range [][]string{{"/usr/bin/id"}, odd} {
			text += account + " ALL=(root) NOPASSWD: " + sudoersCommand(command) + "\n"
		}
		put(t, sudoersPath, text)
		run(t, "/usr/sbin/visudo", "-cqf", sudoersPath)
		may := func(argv ...string) bool {
			return exec.CommandContext(t.Context(), "sudo", append([]string{"-n", "-l", "-U", account}, argv...)...).Run() == nil
		}
		for _, argv := range [][]string{{"/usr/bin/id"}, odd} {
			if !may(argv...) {
				t.Errorf("%q is not allowed:\n%s", argv, text)
			}
		}
		for _, more := range [][]string{{"/usr/bin/id", "-u"}, append(slices.Clone(odd), "more"), odd[:3], {"/usr/bin/echo", "a b", "cc"}, {"/usr/bin/echo"}} {
			if may(more...) {
				t.Errorf("%q is allowed, too:\n%s", more, text)
			}
		}
		for i, other := range map[int]string{2: "cx", 3: "dx", 4: "e", 6: "h"} {
			argv := slices.Clone(odd)
			argv[i] = other
			if may(argv...) {
				t.Errorf("%q is allowed, too:\n%s", argv, text)
			}
		}
	})
}
