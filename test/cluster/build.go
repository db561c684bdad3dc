package cluster

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// goCommand runs `go build` or `go list` in a module, with the flags that this program was compiled with:
// what the cluster's programs and ours import is then compiled once. They are static, since machines run
// them that have another C library, or none.
func goCommand(ctx context.Context, dir, verb string, args ...string) *exec.Cmd {
	argv := []string{verb, "-mod=readonly", "-buildvcs=false"}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "-gcflags" {
				argv = append(argv, "-gcflags="+s.Value)
			}
		}
	}
	cmd := exec.CommandContext(ctx, "go", append(argv, args...)...)
	cmd.Dir = dir
	// The compiler's memory is short-lived: collecting less of it saves time.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=", "GOGC=400")
	return cmd
}

// goBuild builds into a temporary name and renames, so that a program in the cache is always complete.
func goBuild(ctx context.Context, dir, target string) error {
	part := target + ".part"
	if out, err := goCommand(ctx, dir, "build", "-o", part, ".").CombinedOutput(); err != nil {
		return fmt.Errorf("go build for %s: %w\n%s", filepath.Base(target), err, out)
	}
	return os.Rename(part, target)
}

// mains are main packages of a module, to be built into a directory under the last elements of their paths.
type mains struct {
	module, file string // its directory, and the one of its files that says what it requires
	dir, ldflags string
	packages     []string
}

func (m mains) build(ctx context.Context, log io.Writer) error {
	progress, err := m.progress(ctx)
	if err != nil {
		return err
	}
	cmd := goCommand(ctx, m.module, "build", append([]string{"-modfile=" + m.file, "-v", "-ldflags", m.ldflags, "-o", m.dir + "/"}, m.packages...)...)
	said, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	cmd.Stdout = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	words := progress.follow(said, log)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("go build for the test cluster: %w\n%s", err, words)
	}
	return nil
}

// Calibrated with Kubernetes 1.37 and Go 1.26: what is compiled in a second of one CPU, in bytes of
// source, and what linking a program costs in the same measure.
const (
	compiledPerSecond = 200 << 10
	linked            = 2 << 20
)

// progress knows how much there is to compile, by the size of the source.
type progress struct {
	weight map[string]int64 // by import path, of what is not in Go's cache
	total  int64            // with the links
	done   int64
	began  time.Time
}

func (m mains) progress(ctx context.Context) (*progress, error) {
	const format = `{{if and .Stale (ne .StaleReason "not installed but available in build cache")}}{{.ImportPath}}{{"\t"}}{{.Dir}}{{range .GoFiles}}{{"\t"}}{{.}}{{end}}{{end}}`
	out, err := goCommand(ctx, m.module, "list", append([]string{"-modfile=" + m.file, "-deps", "-f", format}, m.packages...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("go list for the test cluster: %w\n%s", err, stderrOf(err))
	}
	p := &progress{weight: map[string]int64{}, total: linked * int64(len(m.packages)), began: time.Now()}
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if len(fields) < 2 {
			continue
		}
		for _, file := range fields[2:] {
			if info, err := os.Stat(filepath.Join(fields[1], file)); err == nil {
				p.weight[fields[0]] += info.Size()
			}
		}
		p.total += p.weight[fields[0]]
	}
	return p, nil
}

func stderrOf(err error) []byte {
	if exit, ok := err.(*exec.ExitError); ok {
		return exit.Stderr
	}
	return nil
}

// follow reads what `go build -v` says, tells every now and then how far it is, and returns what else it said.
func (p *progress) follow(said io.Reader, log io.Writer) string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scan := bufio.NewScanner(said); scan.Scan(); {
			lines <- scan.Text()
		}
	}()
	fmt.Fprintln(log, p.at(time.Now()))
	ticker := time.NewTicker(20 * time.Second)
	defer ticker.Stop()
	var words []string
	for {
		select {
		case now := <-ticker.C:
			fmt.Fprintln(log, p.at(now))
		case line, more := <-lines:
			if !more {
				return strings.Join(words, "\n")
			}
			if weight, ok := p.weight[line]; ok {
				p.done += weight
			} else if !strings.HasPrefix(line, "go: downloading ") {
				words = append(words, line)
			}
		}
	}
}

// at says how far the build is, as if some seconds before it had gone as fast as calibrated: that is all
// there is to go by at first, and little later, on a machine that is slower or busy.
func (p *progress) at(now time.Time) string {
	const assumed = 5
	speed := compiledPerSecond * float64(runtime.NumCPU())
	spent := now.Sub(p.began).Seconds() + assumed
	left := time.Duration(float64(p.total-p.done) * spent / (float64(p.done) + assumed*speed) * float64(time.Second))
	return fmt.Sprintf("building Kubernetes, once: %d %% of it, about %s left", 100*p.done/p.total, roundTime(left))
}

func roundTime(d time.Duration) string {
	if d < 90*time.Second {
		return fmt.Sprintf("%d s", max(10, 10*int(d.Seconds()/10)))
	}
	return fmt.Sprintf("%d min", int(d.Minutes()+0.5))
}
