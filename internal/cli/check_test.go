package cli

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/external-lb/external-lb/internal/preflight"
)

// The exit code says how bad it is.
func TestCheck_ItsExitCode(t *testing.T) {
	for want, states := range map[int][]preflight.State{
		0: {preflight.OK, preflight.Skip}, 1: {preflight.OK, preflight.Warn}, 2: {preflight.Warn, preflight.Fail, preflight.OK},
	} {
		var checks preflight.Checks
		for _, s := range states {
			checks = append(checks, preflight.Check{Topic: "t", State: s, Message: "m\x1b[2J"})
		}
		for _, output := range []string{"text", "json", "yaml"} {
			var out bytes.Buffer
			code := 0
			if e, ok := errors.AsType[exit](printChecks(&out, checks, output)); ok {
				code = e.code
			}
			if code != want {
				t.Errorf("%v as %s: exit code %d, want %d", states, output, code, want)
			}
			if slices.Contains(out.Bytes(), '\x1b') {
				t.Errorf("%s obeys what it prints: %q", output, out.String())
			}
		}
	}
}
