package release

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/external-lb/external-lb/test/wait"
)

var update = flag.Bool("update", false, "write what is printed into the tutorial anew")

const tutorial = "docs/tutorial-install.md"

// The tutorial on installing, typed as it is written, on a fresh cluster and with the release that was built here.
// What is printed is what the page shows, but for what differs each time. Only what builds is left out: it is there.
func TestTutorialInstalls(t *testing.T) {
	r := newNewcomer(t)
	for _, b := range r.page(t) {
		switch {
		case b.language == "yaml":
			write(t, filepath.Join(r.dir, b.file), b.text)
		case b.language != "sh":
		case staysUp.MatchString(b.text):
			r.starts(t, b)
		case settles.MatchString(b.text) && b.shown != nil:
			r.asks(t, b)
		default:
			r.types(t, b)
		}
	}
	if *update {
		write(t, filepath.Join(root, tutorial), r.text)
	}
}

var (
	staysUp  = regexp.MustCompile(`^(bin/testcluster kubelet|external-lb ui)`)
	settles  = regexp.MustCompile(`^(external-lb (check|status|explain)|kubectl get)`) // somebody who is too early asks again
	mayFail  = regexp.MustCompile(`^external-lb (check|explain)`)                      // whose exit code says what was found
	fenced   = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")
	savedAs  = regexp.MustCompile("`([a-z]+\\.yaml)`[^`]*\n\n$") // before a block
	building = regexp.MustCompile(`(?m)^make .*\n`)              // which is done already
)

// differs is what is not the same each time.
var differs = regexp.MustCompile(strings.Join([]string{
	// addresses, nodePorts, and the secret part of an address for a browser
	`\b(?:198\.18|10\.\d+)\.\d+\.\d+\b`, `127\.0\.0\.1:\d+`, `\b3[0-2]\d{3}\b`, `/[\w-]{20,}`,
	// digests, and pods
	`\b[0-9a-f]{10,64}\b`, `\bexternal-lb-\w{6,10}-\w{5}\b`,
	// times
	`\b\w{3} \w{3} +\d+ [\d:]+ \d{4}\b`, `\b20\d\d-\d\d-\d\d[T ][\d:]+Z?`, `\b\d+(?:\.\d+)?m?s\b`, `\b\d+m(?:\d+s)?\b`,
	// what a machine has, and versions that are not ours
	`\b\d+ % of .*`,
	`\b(?:go|v|nginx[ /])[1-9]\d*\.\d+(?:\.\d+)?`,
}, "|"))

// newcomer is somebody at a terminal, in a directory.
type newcomer struct {
	dir  string
	env  []string
	text string // of the page, with what was printed if it is written anew
}

func newNewcomer(t *testing.T) *newcomer {
	t.Helper()
	dist := built(t)
	dir := t.TempDir()
	r := &newcomer{dir: dir, text: string(read(t, root, tutorial)), env: append(os.Environ(), "XDG_RUNTIME_DIR="+dir, // where the cluster is
		"HELM_CONFIG_HOME="+dir, "HELM_CACHE_HOME="+dir, "HELM_DATA_HOME="+dir, "DEBIAN_FRONTEND=noninteractive")}
	run(t, root, "go", "build", "-o", filepath.Join(dir, "bin", "testcluster"), "./test/cluster/cmd/testcluster")
	helm := strings.TrimSpace(run(t, root+"/tools/helm", "go", "tool", "-n", "helm"))
	if err := errors.Join(os.Symlink(dist, filepath.Join(dir, "dist")), os.Symlink(helm, filepath.Join(dir, "bin", "helm"))); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, ".shell"), "")
	t.Cleanup(func() {
		if out, err := r.shell(context.WithoutCancel(t.Context()), "bin/testcluster down").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	return r
}

// block of the page.
type block struct {
	language, text string
	file           string  // as which it is saved
	shown          *string // what the page shows that a command prints; nil for nothing
}

func (r *newcomer) page(t *testing.T) (out []block) {
	t.Helper()
	for _, m := range fenced.FindAllStringSubmatchIndex(r.text, -1) {
		b := block{language: r.text[m[2]:m[3]], text: r.text[m[4]:m[5]]}
		switch name := savedAs.FindStringSubmatch(r.text[:m[0]]); {
		case b.language == "text":
			out[len(out)-1].shown = &b.text
			continue
		case b.language == "yaml" && name == nil:
			t.Fatalf("nobody is told as what to save:\n%s", b.text)
		case b.language == "yaml":
			b.file = name[1]
		default:
			b.text = strings.ReplaceAll(building.ReplaceAllString(b.text, ""), "0.1.0", number)
		}
		out = append(out, b)
	}
	return out
}

// shell runs commands in the shell that earlier ones have left.
func (r *newcomer) shell(ctx context.Context, commands string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-ec", "trap 'export -p >.shell' EXIT\n. ./.shell\n"+commands)
	cmd.Dir, cmd.Env = r.dir, r.env
	return cmd
}

// types commands, and looks at what they print.
func (r *newcomer) types(t *testing.T, b block) {
	t.Helper()
	began := time.Now()
	out, err := r.shell(t.Context(), b.text).CombinedOutput()
	t.Logf("%.1f s\n%s%s", time.Since(began).Seconds(), b.text, out)
	if err != nil && !mayFail.MatchString(b.text) {
		t.Fatal(err)
	}
	if err := r.shows(b, string(out)); err != nil {
		t.Error(err)
	}
}

// asks until the answer is the page's.
func (r *newcomer) asks(t *testing.T, b block) {
	t.Helper()
	wait.For(t, func(ctx context.Context) error {
		out, err := r.shell(ctx, b.text).CombinedOutput()
		if err != nil && !mayFail.MatchString(b.text) {
			return fmt.Errorf("%s%w\n%s", b.text, err, out)
		}
		return r.shows(b, string(out))
	})
}

// starts what stays up until the test ends, and looks at its page, where it has one.
func (r *newcomer) starts(t *testing.T, b block) {
	t.Helper()
	log := filepath.Join(r.dir, "started.log")
	write(t, log, "")
	to, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	cmd := r.shell(context.WithoutCancel(t.Context()), "exec "+b.text)
	cmd.Stdout, cmd.Stderr = to, to
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // as Ctrl-C does
		if err := errors.Join(cmd.Process.Signal(syscall.SIGINT), cmd.Wait()); err != nil {
			t.Logf("%s%v", b.text, err)
		}
	})
	var said string
	wait.For(t, func(context.Context) error {
		said = string(read(t, r.dir, "started.log"))
		if !strings.Contains(said, "Ctrl-C") {
			return fmt.Errorf("%ssays %q", b.text, said)
		}
		return nil
	})
	if err := r.shows(b, said); err != nil {
		t.Error(err)
	}
	if at := regexp.MustCompile(`http://\S+`).FindString(said); at != "" {
		r.opens(t, at)
	}
}

// opens a page.
func (r *newcomer) opens(t *testing.T, at string) {
	t.Helper()
	answer, err := http.Get(at)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || !strings.Contains(string(text), "<title>external-lb<") {
		t.Errorf("%s: %s, %v\n%s", at, answer.Status, err, text)
	}
}

// shows compares what was printed with what the page shows, or writes it there.
func (r *newcomer) shows(b block, printed string) error {
	printed = strings.ReplaceAll(printed, number, "0.1.0")
	if b.shown == nil || matches(lines(*b.shown), lines(printed)) {
		return nil
	}
	if *update {
		r.text = strings.Replace(r.text, written(b)+*b.shown+"```\n", written(b)+strings.TrimRight(printed, "\n")+"\n```\n", 1)
		return nil
	}
	return fmt.Errorf("%sprints\n%s\n%s shows\n%s", b.text, printed, tutorial, *b.shown)
}

// written is how a block of commands, and what is shown below it, begins on the page.
func written(b block) string {
	return strings.ReplaceAll(b.text, number, "0.1.0") + "```\n\n```text\n"
}

// lines without what differs each time. How wide columns are follows from it.
func lines(text string) (out []string) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		out = append(out, strings.Join(strings.Fields(differs.ReplaceAllString(line, "?")), " "))
	}
	return out
}

// matches reports whether these are the lines. One that is … stands for any number of them.
func matches(want, have []string) bool {
	switch {
	case len(want) == 0:
		return len(have) == 0
	case want[0] == "…":
		return matches(want[1:], have) || len(have) > 0 && matches(want, have[1:])
	}
	return len(have) > 0 && want[0] == have[0] && matches(want[1:], have[1:])
}
