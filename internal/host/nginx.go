package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/external-lb/external-lb/internal/fileset"
)

// commandTimeout is how long the daemon's own check may take.
const commandTimeout = 2 * time.Minute

// runner runs commands: the machine, or one that fails in a test.
type runner interface {
	// Run returns what the command printed on both outputs. The error says that
	// it could not run or did not exit with 0.
	Run(ctx context.Context, argv []string) (string, error)
}

// machine runs commands for real.
type machine struct{}

// raiseOpenFiles lets the commands open as many files as this process may: the
// daemon's check opens every listener.
var raiseOpenFiles = sync.OnceFunc(func() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) // a check that needs more will say so
	}
})

func (machine) Run(ctx context.Context, argv []string) (string, error) {
	raiseOpenFiles()
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return string(out), err
}

// nginx is this machine's daemon.
type nginx struct {
	NginxSettings
	runner runner
}

// answer is what nginx says on its proof address.
type answer struct {
	version string
	pid     int
	digest  fileset.Digest
}

// proofConf makes nginx say what it runs. It undoes what the owner's stream block
// may say about every server.
func (n *nginx) proofConf(d fileset.Digest) []byte {
	return fmt.Appendf(nil, `# Made by external-lb: says which configuration runs.
server {
    listen %s;
    allow all;
    access_log off;
    return "external-lb $nginx_version $pid %s";
}
`, n.Proof, d)
}

// ask asks nginx what it runs.
func (n *nginx) ask(ctx context.Context) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", n.Proof)
	if err != nil {
		return answer{}, err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return answer{}, err
		}
	}
	text, err := io.ReadAll(io.LimitReader(c, 256))
	if err != nil {
		return answer{}, err
	}
	return parseAnswer(string(text))
}

var proofText = regexp.MustCompile(`^external-lb ([0-9.]{1,20}) ([0-9]{1,9}) ([0-9a-f]{64})$`)

func parseAnswer(text string) (answer, error) {
	m := proofText.FindStringSubmatch(text)
	if m == nil {
		return answer{}, fmt.Errorf("%.80q is not an answer of nginx", text)
	}
	pid, err := strconv.Atoi(m[2])
	return answer{"nginx/" + m[1], pid, fileset.Digest(m[3])}, err
}

// verdict runs a command of nginx: its words if it refuses, or an error if it
// cannot be run at all.
func (n *nginx) verdict(ctx context.Context, argv []string) (words string, err error) {
	out, err := n.runner.Run(ctx, argv)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "", nil
	case ctx.Err() != nil:
		return "", ctx.Err()
	case strings.Contains(out, "sudo: "):
		return "", failed("sudo does not let this user run %q: %s; run `external-lb host install` again", strings.Join(argv, " "), oneLine(out))
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return "", failed("%s is not installed: apt-get install nginx libnginx-mod-stream sudo", argv[0])
	case !errors.As(err, &exit):
		return "", failed("%q: %v", strings.Join(argv, " "), err)
	}
	if words = emergencies(out); words == "" {
		words = oneLine(out)
	}
	if words == "" {
		words = fmt.Sprintf("%q: %v", strings.Join(argv, " "), err)
	}
	return words, nil
}

var emergency = regexp.MustCompile(`(?m)^.*\[emerg\] (?:\d+#\d+: )?(.*)$`)

// emergencies are the lines with which nginx refuses something, without stamps
// and without repetition, each on a line.
func emergencies(log string) string {
	var lines []string
	seen := map[string]bool{}
	for _, m := range emergency.FindAllStringSubmatch(log, -1) {
		if text := strings.TrimSpace(m[1]); !seen[text] {
			seen[text] = true
			lines = append(lines, text)
		}
	}
	return strings.Join(lines, "\n")
}

// oneLine makes any output fit for a message.
func oneLine(out string) string {
	text := strings.Join(strings.Fields(out), " ")
	if len(text) > 500 {
		text = strings.ToValidUTF8(text[:500], "") + "…"
	}
	return text
}

// logTail is the end of the error log; "" if it cannot be read.
func (n *nginx) logTail(ctx context.Context) string {
	out, err := n.runner.Run(ctx, n.Log)
	if err != nil {
		return ""
	}
	return out
}

// newIn is what a log has got since an earlier look at its end.
func newIn(before, now string) string {
	const enough = 2048
	mark := before[max(0, len(before)-enough):]
	if i := strings.LastIndex(now, mark); mark != "" && i >= 0 {
		return now[i+len(mark):]
	}
	return now
}

// version of the binary, without asking a daemon.
func (n *nginx) version(ctx context.Context) (string, error) {
	out, err := n.runner.Run(ctx, []string{n.Binary, "-v"})
	_, version, ok := strings.Cut(oneLine(out), "nginx version: ")
	if err != nil || !ok {
		return "", fmt.Errorf("%s cannot be run: apt-get install nginx libnginx-mod-stream", n.Binary)
	}
	return strings.Fields(version)[0], nil
}

// oldestNginx has every directive that the rendered configuration uses:
// proxy_half_close came with 1.21.4.
var oldestNginx = [3]int{1, 21, 4}

// tooOld says what to do about a version that lacks directives, "" if it has them.
func tooOld(version string) string {
	var v [3]int
	if _, err := fmt.Sscanf(version, "nginx/%d.%d.%d", &v[0], &v[1], &v[2]); err != nil || slices.Compare(v[:], oldestNginx[:]) >= 0 {
		return "" // what it cannot do, it will say itself
	}
	return fmt.Sprintf("%s is too old, external-lb needs nginx %d.%d.%d or later: upgrade it (Debian 12 has 1.22)",
		version, oldestNginx[0], oldestNginx[1], oldestNginx[2])
}
