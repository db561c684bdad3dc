// Package share runs the tests of a package in several processes beside each other: for
// tests that wait more than they work, and of which each process needs a network, or a
// cluster, of its own.
package share

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process runs this test program for some of its tests.
type Process struct {
	Name string // for who reads what it said
	Cmd  *exec.Cmd
}

// Filtered reports whether somebody wants not all tests, or something for which one
// process must see all of them.
func Filtered() (is bool) {
	flag.Visit(func(f *flag.Flag) {
		is = is || slices.Contains([]string{"test.run", "test.skip", "test.list", "test.bench", "test.fuzz", "test.coverprofile"}, f.Name)
	})
	return is
}

// Deal deals out the tests of a pattern that list prints, which is this program, like cards: those
// beside each other in a file, which take about as long, to different processes. The
// result is the flags for each process; for one alone where the tests are Filtered.
func Deal(processes int, pattern string, list *exec.Cmd) (flags [][]string, err error) {
	var own []string
	for _, f := range os.Args[1:] {
		if !strings.HasPrefix(f, testLog) { // see Run
			own = append(own, f)
		}
	}
	if Filtered() {
		return [][]string{own}, nil
	}
	list.Args = append(list.Args, "-test.list="+pattern)
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("listing tests: %w", err)
	}
	hands := make([][]string, processes)
	for i, test := range strings.Fields(string(out)) {
		hands[i%processes] = append(hands[i%processes], test)
	}
	for _, hand := range hands {
		flags = append(flags, append(slices.Clone(own), "-test.run=^("+strings.Join(hand, "|")+")$"))
	}
	return flags, nil
}

// Run processes beside each other, the first ones first: two for each processor. With more, each waits
// for the others instead of for what it tests. What one said is printed when it has ended.
func Run(all ...Process) (code int) {
	dir, err := os.MkdirTemp("", "external-lb-share-")
	if err != nil {
		return Failed(err)
	}
	defer os.RemoveAll(dir)
	logs, codes := make([]string, len(all)), make([]int, len(all))
	var running sync.WaitGroup
	places := make(chan struct{}, 2*runtime.NumCPU())
	for i, p := range all {
		logs[i] = filepath.Join(dir, fmt.Sprint(i))
		p.Cmd.Args = append(p.Cmd.Args, testLog+logs[i])
		places <- struct{}{}
		running.Go(func() {
			codes[i] = p.run()
			<-places
		})
	}
	running.Wait()
	if err := mergeTestLogs(logs); err != nil {
		return Failed(err)
	}
	return slices.Max(codes)
}

// Failed says why nothing is known of the tests.
func Failed(err error) (code int) {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func (p Process) run() (code int) {
	runtime.LockOSThread() // the child is to end with this process, not with a thread that ends before
	defer runtime.UnlockOSThread()
	began := time.Now()
	p.Cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := p.Cmd.CombinedOutput()
	if err != nil {
		out = fmt.Appendln(out, err)
		code = 1
	}
	var used time.Duration
	if state := p.Cmd.ProcessState; state != nil {
		used = state.SystemTime() + state.UserTime()
	}
	fmt.Fprintf(os.Stderr, "== %s: %.0f s, %.0f s of them on a processor\n%s", p.Name, time.Since(began).Seconds(), used.Seconds(), out)
	return code
}

// testLog names the file from which go test learns what tests have read: what it knows
// of them holds until that changes.
const testLog = "-test.testlogfile="

// mergeTestLogs makes one of what processes have read.
func mergeTestLogs(logs []string) error {
	to := flag.Lookup("test.testlogfile").Value.String()
	if to == "" {
		return nil
	}
	const head = "# test log\n"
	merged := []byte(head)
	for _, log := range logs {
		read, err := os.ReadFile(log)
		if err != nil {
			return err
		}
		merged = append(merged, bytes.TrimPrefix(read, []byte(head))...)
	}
	return os.WriteFile(to, merged, 0o600)
}
