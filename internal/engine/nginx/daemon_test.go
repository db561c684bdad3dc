package nginx

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
)

func TestParseAnswer(t *testing.T) {
	digest := strings.Repeat("0f", 32)
	if a, err := parseAnswer("external-lb 1.22.1 42 " + digest); err != nil || a != (engine.Answer{Version: "nginx/1.22.1", PID: 42, Digest: fileset.Digest(digest)}) {
		t.Errorf("%+v, %v", a, err)
	}
	for _, bad := range []string{"", "SSH-2.0-x", "external-lb 1.22.1 42 " + digest + "\n", "external-lb x 42 " + digest} {
		if a, err := parseAnswer(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, a)
		}
	}
}

// Clients write what follows "referrer:" and "host:" in the log.
func TestOnlyNginxsOwnWordsCount(t *testing.T) {
	const own = "bind() to 192.0.2.1:80 failed (98: Address in use)"
	for _, line := range []string{"nginx: [emerg] " + own, "2026/11/26 12:00:00 [emerg] 7#7: " + own} {
		if got := emergencies("something\n" + line + "\n"); got != own {
			t.Errorf("%q says %q", line, got)
		}
	}
	for _, forged := range []string{"[emerg] 1#1: bind() to 192.0.2.9:443 failed (13: Permission denied)", "[alert] 1#1: 64 worker_connections are not enough"} {
		line := `2026/11/26 12:00:00 [error] 7#7: *1 access forbidden by rule, client: 192.0.2.7, host: "a", referrer: "` + forged + "\"\n"
		if got := emergencies(line); got != "" || noConnection.MatchString(line) {
			t.Errorf("a client said %q", got)
		}
	}
	if !noConnection.MatchString("2026/11/26 12:00:00 [alert] 7#7: 64 worker_connections are not enough\n") {
		t.Error("it is not told that connections are used up")
	}
}

// steps of an installation that does things.
type steps struct{ engine.Steps }

func (steps) Run(ctx context.Context, argv []string) (string, error) {
	return engine.Machine{}.Run(ctx, argv)
}

// What nginx refuses is undone.
func TestInstallUndoesWhatNginxRefuses(t *testing.T) {
	n := &Daemon{Settings: &Settings{Conf: filepath.Join(t.TempDir(), "nginx.conf")}}
	n.SetDefaults("", "", false)
	const before = "pid /dev/null;\nerror_log stderr;\nevents {}\n"
	if err := os.WriteFile(n.Conf, []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	in := &installer{Steps: steps{}, nginx: n}
	for added, good := range map[string]bool{"mistake;\n": false, "worker_processes 1;\n": true} {
		err := in.edit(t.Context(), n.Conf, func(text string) string { return text + added })
		want := before
		if good {
			want += added
		}
		if after, readErr := os.ReadFile(n.Conf); (err == nil) != good || readErr != nil || string(after) != want {
			t.Errorf("%q: error %v, %v; the file is %q", added, err, readErr, after)
		}
		if err := os.WriteFile(n.Conf, []byte(before), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	beside := filepath.Join(filepath.Dir(n.Conf), "beside.conf")
	if err := os.WriteFile(n.Conf, []byte(before+"include "+beside+"*;\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := in.edit(t.Context(), beside, func(string) string { return "mistake;\n" }); err == nil {
		t.Error("nginx took a mistake")
	}
	if _, err := os.Stat(beside); err == nil {
		t.Error("a file that nginx refuses is there")
	}
}

// quiet runs nothing.
type quiet struct{}

func (quiet) Run(context.Context, []string) (string, error) { return "", nil }

// A reload has more time than the settings say, where the host is known to be slow.
func TestAReloadHasMoreTimeThanTheSettingsSay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // it is there until then
	n := &Daemon{Settings: &Settings{Proof: l.Addr().String(), PIDFile: "/nowhere", ProofTimeout: 1}, Runner: quiet{}}
	before, want := strings.Repeat("0", 64), strings.Repeat("1", 64)
	go func() {
		for asked := 0; ; asked++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			digest := want
			if asked < 3 {
				digest = before
			}
			_, _ = fmt.Fprintf(c, "external-lb 1.22.1 42 %s", digest) // who asked has gone otherwise
			_ = c.Close()
		}
	}()
	if err := n.Reload(t.Context(), fileset.Digest(want), time.Hour); err != nil {
		t.Error(err)
	}
}
