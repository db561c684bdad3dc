package engine

import (
	"errors"
	"os/exec"
	"strings"
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
