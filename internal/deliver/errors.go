package deliver

import (
	"context"
	"errors"
	"strings"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/wire"
)

// Reason classifies why a host does not run what is desired.
type Reason string

// The reasons.
const (
	ReasonUnreachable    Reason = "Unreachable"    // no answer at its address: network, firewall, sshd not running
	ReasonLost           Reason = "ConnectionLost" // it answered, and the connection broke
	ReasonSecret         Reason = "Secret"         // the Secret is missing, lacks a key or cannot be parsed
	ReasonTaken          Reason = "Taken"          // another host, mostly of another Balancer, is the same machine
	ReasonKeyRefused     Reason = "KeyRefused"     // sshd refuses the user or the key
	ReasonHostKeyUnknown Reason = "HostKeyUnknown" // known_hosts has no key for the address
	ReasonHostKeyChanged Reason = "HostKeyChanged" // known_hosts has another key for the address
	ReasonCommand        Reason = "Command"        // the forced command is missing or is another program
	ReasonProtocol       Reason = "Protocol"       // controller and host are of versions that do not understand each other
	ReasonLocal          Reason = "Local"          // the agent on the controller's own machine cannot be reached
	ReasonStaleEpoch     Reason = "StaleEpoch"     // the host has taken the delivery of a newer leader, and this process leads no more
	ReasonTermJump       Reason = "TermJump"       // the host has taken a term that no leader can have reached
	ReasonContested      Reason = "Contested"      // somebody else delivers as the leader of this cluster, again and again
	ReasonOtherCluster   Reason = "OtherCluster"   // another cluster delivers to the host
	ReasonBaseMismatch   Reason = "BaseMismatch"   // what the host wants changes under our hands
	ReasonRolledBack     Reason = "RolledBack"     // the daemon did not take or not prove the configuration
	ReasonMachine        Reason = "Machine"        // the machine could not do it: disk full, daemon not running
	ReasonRefused        Reason = "Refused"        // items or ports were left out
	ReasonUnproven       Reason = "Unproven"       // a delivery ended well, and something else is live
	ReasonHeldBack       Reason = "HeldBack"       // the host that gets each change first did not prove it
	ReasonThrottled      Reason = "Throttled"      // a provider's cloud asks to be left alone for a while, and was not read before
	ReasonEngine         Reason = "WrongEngine"    // the host is prepared for another engine
)

// refuses reports whether it is that the host did not take or not prove a change: the machine is well.
func (r Reason) refuses() bool { return r == ReasonRolledBack || r == ReasonUnproven }

// Error says why a host does not run what is desired, and what to do.
type Error struct {
	Reason  Reason
	Message string
	Slow    bool  // the host was there, and had too little time
	Err     error // the cause; may be nil
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func wrongEngine(has, wants string) *Error {
	main, beside, with := strings.Cut(wants, "+")
	hasMain, hasBeside, hadBeside := strings.Cut(has, "+")
	message := ""
	switch {
	case hasMain != main:
		change := "write `engine: " + main + "` into /etc/external-lb/host.yaml"
		switch {
		case with && hasBeside != beside:
			change += ", add the line `datagrams: " + beside + "`"
		case hadBeside && !with:
			change += ", take the line `datagrams` out"
		}
		message = "the host is prepared for " + has + ", but the Balancer's engine is " + wants +
			": name another host. Or end what " + hasMain + " reads there, " + change + ", keep what else is in there, and run `external-lb host install`"
	case with:
		message = "the host is prepared for " + has + ", but not for spec.datagrams of the Balancer: add the line `datagrams: " + beside +
			"` to /etc/external-lb/host.yaml there, and run `external-lb host install`"
	default:
		message = "datagrams are carried by " + hasBeside + " on the host, but not by the Balancer: set its spec.datagrams, " +
			"or take the line `datagrams` out of /etc/external-lb/host.yaml there, and run `external-lb host install`"
	}
	return &Error{Reason: ReasonEngine, Message: message}
}

// hostState is the state of a host that cannot be worked with.
func (e *Error) hostState() v1alpha1.HostState {
	switch e.Reason {
	case ReasonCommand, ReasonProtocol, ReasonLocal:
		return v1alpha1.HostFailed // it was reached
	case ReasonThrottled:
		return v1alpha1.HostConnecting // nothing is wrong, and nothing known
	default:
		return v1alpha1.HostUnreachable
	}
}

// passing reports whether the trouble may go away without anybody's doing.
func (e *Error) passing() bool { return e.Reason == ReasonUnreachable || e.Reason == ReasonLost }

// explain puts what ended a connection, or prevented it, into words.
func explain(err error, t Target) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	message := "the connection to " + t.Endpoint() + " broke: " + err.Error()
	if t.Host.Local != nil {
		message = "the agent on this machine broke off: " + err.Error()
	}
	slow := errors.Is(err, context.DeadlineExceeded)
	if slow {
		message += ": is the host overloaded?"
	}
	return &Error{Reason: ReasonLost, Message: message, Slow: slow, Err: err}
}

// problem is why a target cannot be reached at all.
func problem(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Reason: ReasonSecret, Message: err.Error(), Err: err}
}

// broken reports whether an error is the end of a connection.
func broken(err error) bool {
	return errors.Is(err, wire.ErrLost) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// mayHaveReloaded reports whether the daemon may have, though the delivery failed.
func mayHaveReloaded(err error) bool {
	he, told := errors.AsType[*host.Error](err)
	return err != nil && (!told || he.Code == host.CodeRolledBack || he.Code == host.CodeMachine)
}

// reasonOf classifies the failure of a call.
func reasonOf(err error) Reason {
	if he, ok := errors.AsType[*host.Error](err); ok {
		switch he.Code {
		case host.CodeStaleEpoch, host.CodeTermJump, host.CodeOtherCluster, host.CodeBaseMismatch, host.CodeRolledBack, host.CodeMachine:
			return Reason(he.Code)
		}
	}
	if broken(err) {
		return ReasonLost
	}
	return ReasonMachine
}
