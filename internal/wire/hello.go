package wire

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/external-lb/external-lb/internal/host"
)

// Protocol is the number of what this package speaks. It changes only when an
// older peer would misunderstand.
const Protocol = 5

const (
	magic    = "external-lb-host"
	helloMax = 256 // bytes of a hello line
)

// Hello is what each end says first, in one line of text that every version
// understands: external-lb-host PROTOCOL VERSION AGENT.
type Hello struct {
	Protocol int
	Version  string // of external-lb
	Agent    string // which it is of all that run: see host.Agent.Identity; "" of a controller
}

func ours() Hello { return Hello{Protocol: Protocol, Version: host.Version()} }

func (h Hello) line() string {
	return strings.TrimSuffix(fmt.Sprintf("%s %d %s %s", magic, h.Protocol, h.Version, h.Agent), " ") + "\n"
}

// parseHello reads a line without its end.
func parseHello(line string) (Hello, bool) {
	rest, ok := strings.CutPrefix(line, magic+" ")
	if !ok {
		return Hello{}, false
	}
	number, version, ok := strings.Cut(rest, " ")
	version, agent, _ := strings.Cut(version, " ")
	protocol, err := strconv.Atoi(number)
	if !ok || err != nil || protocol < 1 || strings.ContainsFunc(rest, func(r rune) bool { return r < ' ' || r > '~' }) {
		return Hello{}, false
	}
	return Hello{Protocol: protocol, Version: version, Agent: agent}, true
}

// VersionError says that the two ends speak different protocols.
type VersionError struct{ Ours, Theirs Hello }

func (e *VersionError) Error() string {
	behind := "update external-lb on the host"
	if e.Theirs.Protocol > e.Ours.Protocol {
		behind = "update the controller"
	}
	return fmt.Sprintf("the host runs external-lb %s, protocol %d; the controller is %s, protocol %d: %s",
		e.Theirs.Version, e.Theirs.Protocol, e.Ours.Version, e.Ours.Protocol, behind)
}

// HelloError says that the other end is not external-lb at all.
type HelloError struct {
	Got []byte // what it said instead, at most 256 bytes
	Err error  // why there was no more of it; may be nil
}

func (e *HelloError) Error() string {
	switch {
	case len(e.Got) > 0:
		return fmt.Sprintf("the other end is not external-lb: it says %q", e.Got)
	case e.Err != nil:
		return fmt.Sprintf("the other end said nothing: %v", e.Err)
	default:
		return "the other end said nothing"
	}
}

// Unwrap returns the cause.
func (e *HelloError) Unwrap() error { return e.Err }

// readHello reads one line and not a byte more: what follows is HTTP/2.
func readHello(r io.Reader) (Hello, error) {
	line := make([]byte, 0, helloMax)
	var err error
	for len(line) < helloMax && err == nil && !bytes.HasSuffix(line, []byte("\n")) {
		var b [1]byte
		var n int
		n, err = r.Read(b[:])
		line = append(line, b[:n]...)
	}
	text, whole := strings.CutSuffix(string(line), "\n")
	if h, ok := parseHello(text); ok && whole {
		return h, nil
	}
	return Hello{}, &HelloError{Got: line, Err: err}
}
