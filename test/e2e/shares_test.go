package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/conformance"
)

// sharesOfEach is how many processes share the tests of an engine, each with a cluster of
// its own. All run at once: tests wait more than they work.
const sharesOfEach = 2

// share is a part of the tests on an engine, run by a process of its own.
type share struct {
	engine  v1alpha1.Engine
	name    string
	args    []string
	results string // file
}

// onEveryEngine runs this program for each engine, and prints what each process said when
// it has ended, and then the tables of rows.
func onEveryEngine() int {
	dir, err := os.MkdirTemp("", "external-lb-e2e-")
	if err != nil {
		return failed(err)
	}
	defer os.RemoveAll(dir)
	binary, err := build(context.Background(), dir)
	if err != nil {
		return failed(err)
	}
	shares, err := sharesOf(dir)
	if err != nil {
		return failed(err)
	}
	var running sync.WaitGroup
	codes := make([]int, len(shares))
	for i, s := range shares {
		running.Go(func() { codes[i] = s.run("-binary=" + binary) })
	}
	running.Wait()
	code := 0
	for _, c := range codes {
		code = max(code, c)
	}
	if filtered() {
		return code
	}
	for _, e := range engines {
		var all []result
		for _, s := range shares {
			if s.engine != e.name {
				continue
			}
			its, err := readResults(s.results)
			if err != nil {
				code = failed(err) // it has ended early
			}
			all = append(all, its...)
		}
		code = max(code, conforms(e.name, all))
	}
	return code
}

func failed(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// sharesOf deals out the tests like cards: those beside each other in a file, which take
// about as long, to different processes.
func sharesOf(dir string) (all []share, err error) {
	var tests []string
	count := 1
	if !filtered() {
		out, err := exec.Command(os.Args[0], "-engine", string(engines[0].name), "-test.list", ".").Output()
		if err != nil {
			return nil, fmt.Errorf("listing tests: %w", err)
		}
		tests, count = strings.Fields(string(out)), sharesOfEach
	}
	for _, e := range engines {
		for n := range count {
			s := share{
				engine: e.name, name: fmt.Sprintf("%s, %d of %d", e.name, n+1, count),
				args:    append(ownArgs(), "-engine="+string(e.name)),
				results: filepath.Join(dir, fmt.Sprintf("%s-%d.json", e.name, n)),
			}
			s.args = append(s.args, "-results="+s.results)
			if count > 1 {
				var its []string
				for i := n; i < len(tests); i += count {
					its = append(its, tests[i])
				}
				s.args = append(s.args, "-test.run=^("+strings.Join(its, "|")+")$")
			}
			all = append(all, s)
		}
	}
	return all, nil
}

// ownArgs are this program's flags, without that which names a file of its own.
func ownArgs() (args []string) {
	for _, a := range os.Args[1:] {
		if !strings.HasPrefix(a, "-test.testlogfile=") {
			args = append(args, a)
		}
	}
	return args
}

// run this program for a share, and print what it said when it has ended.
func (s share) run(more ...string) (code int) {
	runtime.LockOSThread() // the child is to end with this process, not with a thread that ends before
	began := time.Now()
	child := exec.Command(os.Args[0], append(s.args, more...)...)
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := child.CombinedOutput()
	if err != nil {
		out = fmt.Appendln(out, err)
		code = 1
	}
	used := child.ProcessState.SystemTime() + child.ProcessState.UserTime()
	fmt.Fprintf(os.Stderr, "== %s: %.0f s, %.0f s of them on a processor\n%s", s.name, time.Since(began).Seconds(), used.Seconds(), out)
	return code
}

// result is what became of a test.
type result struct {
	Test    string
	Outcome conformance.Outcome
	Took    time.Duration
}

// results are those of one process.
type results struct {
	mu  sync.Mutex
	all []result
}

func (r *results) add(t *testing.T, took time.Duration) {
	o := conformance.Passed
	switch {
	case t.Failed():
		o = conformance.Failed
	case t.Skipped():
		o = conformance.Skipped
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, result{t.Name(), o, took})
}

func (r *results) write(file string) error {
	data, err := json.Marshal(r.all)
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600)
}

func readResults(file string) (all []result, err error) {
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	return all, err
}
