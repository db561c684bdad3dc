package cluster

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/external-lb/external-lb/test/wait"
)

const firstThreadEnds = "EXTERNAL_LB_TEST_FIRST_THREAD_ENDS"

// In a process of the test below the first thread ends, and the others stay.
func init() {
	if os.Getenv(firstThreadEnds) == "" {
		return
	}
	runtime.LockOSThread() // to the first one, on which packages are initialized
	_, _, _ = unix.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
}

// A program that is killed has its ports until its last thread has ended, which may be
// later than the first.
func TestProcess_LivesUntilItsLastThreadEnds(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), firstThreadEnds+"=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	started := newProcess(cmd.Process.Pid)
	wait.True(t, "its first thread has ended", func() bool {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		return bytes.Contains(stat, []byte(") Z "))
	})
	if !started.alive() {
		t.Error("it is taken for dead")
	}
	if err := started.kill(unix.SIGKILL); err != nil || started.alive() {
		t.Errorf("error %v, alive %t", err, started.alive())
	}
}
