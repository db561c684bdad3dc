package host

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
)

// bareMachine makes a machine out of a copy of this one: a network, processes and
// a file system of its own.
const bareMachine = `
ip link set lo up
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
mount -t proc proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
mount -t tmpfs -o mode=755 tmpfs "$1/root/run"
mkdir -p "$1/root/run/sshd" "$1/root/run/sudo" "$1/root/run/lock"
sed -i 's/worker_connections 768;/worker_connections 8192;/; 1i worker_rlimit_nofile 16384;' "$1/root/etc/nginx/nginx.conf"
exec chroot "$1/root" "$2" -test.v -test.count=1 "-test.run=^$3\$"
`

// onBareMachine runs a test on a bare machine of its own.
func onBareMachine(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	if os.Getenv("EXTERNAL_LB_TEST_BARE") != "" {
		test(t)
		return
	}
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child",
		"sh", "-ec", bareMachine, "sh", t.TempDir(), os.Args[0], t.Name())
	cmd.Env = append(os.Environ(), "EXTERNAL_LB_TEST_BARE=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("%v\n%s", err, out)
	}
}

const (
	aKey     = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJl3dIeudNqd0DPMRD6OIh65tjVHR3j1cjEsUgj9Hj7c me@here"
	otherKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH0ewbcqW2ofUMPPIsaKQ3iXUWGy0xsfVJ4mYpMpnuuj"
)

func install(t *testing.T, o InstallOptions) map[string]engine.StepResult {
	t.Helper()
	steps, err := Install(t.Context(), o, &engines.Table)
	results := map[string]engine.StepResult{}
	for _, s := range steps {
		t.Logf("%-10s %-20s %s", s.Result, s.Name, s.Detail)
		if results[s.Name] != engine.StepDone {
			results[s.Name] = s.Result
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func run(t *testing.T, argv ...string) string {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), argv[0], argv[1:]...)
	cmd.WaitDelay = 5 * time.Second // a daemon may keep the outputs open
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return string(out)
}

// startDaemon starts nginx, which may keep its outputs open.
func startDaemon(t *testing.T) {
	t.Helper()
	run(t, "sh", "-c", "nginx >/dev/null 2>&1 </dev/null")
}

// hidden makes a file its owner's alone, and stays wants that it is still so.
func hidden(t *testing.T, path string) (stays func()) {
	t.Helper()
	if err := errors.Join(os.Chown(path, 2, 3), os.Chmod(path, 0o640)); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o640 || !ownedBy(info, 2, 3) {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
