package engine

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What sudo minds and does all the same is no word of the daemon's, and takes no right away.
func TestVerdict_WordsOfSudo(t *testing.T) {
	refused := exec.Command("false").Run()
	argv := []string{"sudo", "-n", "/usr/sbin/nginx", "-t"}
	const minds = "sudo: unable to resolve host lb1: Name or service not known\n"
	for out, want := range map[string]string{
		minds + "nginx: [emerg] unknown directive":                                       "nginx: [emerg] unknown directive",
		"sudo: setrlimit(RLIMIT_CORE): Operation not permitted\nnginx: [emerg] sudo: no": "nginx: [emerg] sudo: no",
		minds:                                  `"sudo -n /usr/sbin/nginx -t": exit status 1`,
		minds + "sudo: a password is required": "",
		"sudo: a password is required":         "",
	} {
		words, err := VerdictOn(t.Context(), out, refused, argv, "nginx", OneLine)
		fault, failed := errors.AsType[*Fault](err)
		if words != want || failed != (want == "") || failed && !strings.Contains(fault.Error(), "password is required") {
			t.Errorf("%q: %q, %v", out, words, err)
		}
	}
}

// What cannot be killed when its time is over, since it is root's, says what it has to say.
func TestRun_WhatTakesLong(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	argv := []string{"cat", fifo}
	ofRoot := func(*os.Process) error {
		if err := os.WriteFile(fifo, []byte("a verdict"), 0); err != nil { // which it waits for
			t.Error(err)
		}
		return syscall.EPERM
	}
	if out, err := runWithin(t.Context(), 1, ofRoot, argv); err != nil || out != "a verdict" {
		t.Errorf("of root: %q, %v", out, err)
	}
	out, err := runWithin(t.Context(), 1, (*os.Process).Kill, argv)
	if err == nil || err.Error() != "took longer than 1ns: is the host overloaded?" {
		t.Errorf("of this user: %q, %v", out, err)
	}
}
