package deliver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/external-lb/external-lb/internal/wire"
)

// unreachable says why there is no TCP connection.
func unreachable(t Target, err error) *Error {
	e := &Error{Reason: ReasonUnreachable, Err: err}
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &dns):
		e.Message = fmt.Sprintf("the name %s does not resolve: correct the host's address, or the DNS that the controller uses", t.Host.Address)
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Message = fmt.Sprintf("%s refuses connections: is sshd running there, and on this port?", t.Endpoint())
	case errors.Is(err, context.Canceled):
		e.Message = "stopped while connecting to " + t.Endpoint()
	case errors.As(err, &timeout) && timeout.Timeout():
		e.Message = fmt.Sprintf("%s does not answer: is the host up, and does every firewall on the way let the controller through?", t.Endpoint())
	default:
		e.Message = fmt.Sprintf("%s cannot be reached: %v", t.Endpoint(), err)
	}
	return e
}

// hostKeyError says why the key that a host shows is not trusted.
func hostKeyError(t Target, key ssh.PublicKey, err error) error {
	if err == nil {
		return nil
	}
	shown := fmt.Sprintf("%s key %s", key.Type(), ssh.FingerprintSHA256(key))
	scan := keyscan(t)
	keyErr, ok := errors.AsType[*knownhosts.KeyError](err)
	switch {
	case ok && len(keyErr.Want) == 0:
		return &Error{Reason: ReasonHostKeyUnknown, Err: err, Message: fmt.Sprintf(
			"known_hosts of the Secret has no key for %s, which shows the %s: if that is its own, add what `%s` prints", t.Endpoint(), shown, scan)}
	case ok:
		return &Error{Reason: ReasonHostKeyChanged, Err: err, Message: fmt.Sprintf(
			"%s shows the %s, and known_hosts of the Secret has another for it: it is another machine, or was installed anew; only if that is so, replace the line by what `%s` prints", t.Endpoint(), shown, scan)}
	default:
		return &Error{Reason: ReasonHostKeyChanged, Err: err, Message: fmt.Sprintf(
			"%s shows the %s, which known_hosts of the Secret does not accept: %v", t.Endpoint(), shown, err)}
	}
}

// keyscan is the command that prints a host's keys as known_hosts wants them.
func keyscan(t Target) string { return fmt.Sprintf("ssh-keyscan -p %d %s", t.port(), t.Host.Address) }

// refusedLogin says why the SSH handshake failed.
func refusedLogin(t Target, err error) *Error {
	if negotiation, ok := errors.AsType[*ssh.AlgorithmNegotiationError](err); ok && strings.Contains(negotiation.What, "host key") {
		return &Error{Reason: ReasonHostKeyChanged, Err: err, Message: fmt.Sprintf(
			"%s has no host key of a kind that known_hosts of the Secret knows it by (it has %s): add what `%s` prints, after comparing it",
			t.Endpoint(), strings.Join(negotiation.RequestedAlgorithms, ", "), keyscan(t))}
	}
	if strings.Contains(err.Error(), "unable to authenticate") { // x/crypto has no type for it
		return &Error{Reason: ReasonKeyRefused, Err: err, Message: fmt.Sprintf(
			"sshd on %s refuses the key for the user %s: is the key's public half in that user's authorized_keys, does the user exist, and does sshd_config allow it?",
			t.Endpoint(), t.user())}
	}
	return &Error{Reason: ReasonUnreachable, Err: err, Message: fmt.Sprintf("the SSH handshake with %s failed: %v", t.Endpoint(), err)}
}

// helloError says why the host's end did not say hello.
func helloError(t Target, s *stream, err error) error {
	if _, version := errors.AsType[*wire.VersionError](err); version {
		return &Error{Reason: ReasonProtocol, Message: err.Error(), Err: err}
	}
	return commandError(t, s.farewell(), err)
}

const farewellWait = time.Second

// farewell is what a session that ends at once leaves behind.
func (s *stream) farewell() string {
	ended := make(chan error, 1)
	go func() { ended <- s.session.Wait() }()
	var words []string
	select {
	case err := <-ended:
		if exit, ok := errors.AsType[*ssh.ExitError](err); ok {
			words = append(words, fmt.Sprintf("exit status %d", exit.ExitStatus()))
		}
	case <-time.After(farewellWait): // it goes on, saying something else
	}
	if said := s.stderr.String(); said != "" {
		words = append([]string{said}, words...)
	}
	return strings.Join(words, ", ")
}

// commandError says that what runs on the host is not its end of a delivery.
func commandError(t Target, said string, err error) *Error {
	hello, _ := errors.AsType[*wire.HelloError](err)
	hint := fmt.Sprintf("is external-lb installed there, and is the line of the key in authorized_keys of %s `restrict,command=\"%s\" …`? `external-lb host install` does both",
		t.user(), command)
	var what string
	slow := errors.Is(err, context.DeadlineExceeded)
	switch {
	case hello != nil && len(hello.Got) > 0:
		what = strings.Join(slices.DeleteFunc([]string{fmt.Sprintf("it says %q", hello.Got), said}, func(s string) bool { return s == "" }), ", ")
	case strings.HasPrefix(said, "error: "):
		what, hint = strings.TrimPrefix(said, "error: "), "`external-lb host status` on the host says more" // it is ours, and has said why
	case said != "":
		what = said
	case slow:
		what, hint = "it says nothing", "is the host overloaded? If not, "+hint
	default:
		what = err.Error()
	}
	return &Error{Reason: ReasonCommand, Err: err, Slow: slow, Message: fmt.Sprintf("`%s` on %s does not run: %s: %s", command, t.Endpoint(), what, hint)}
}
