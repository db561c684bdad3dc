package deliver

// Reason classifies why a host does not run what is desired.
type Reason string

// The reasons.
const (
	ReasonUnreachable    Reason = "Unreachable"    // no answer at its address: network, firewall, sshd not running
	ReasonLost           Reason = "ConnectionLost" // it answered, and the connection broke
	ReasonSecret         Reason = "Secret"         // the Secret is missing, lacks a key or cannot be parsed
	ReasonKeyRefused     Reason = "KeyRefused"     // sshd refuses the user or the key
	ReasonHostKeyUnknown Reason = "HostKeyUnknown" // known_hosts has no key for the address
	ReasonHostKeyChanged Reason = "HostKeyChanged" // known_hosts has another key for the address
	ReasonCommand        Reason = "Command"        // the forced command is missing or is another program
	ReasonProtocol       Reason = "Protocol"       // controller and host are of versions that do not understand each other
	ReasonLocal          Reason = "Local"          // the host's end in this process cannot start
	ReasonStaleEpoch     Reason = "StaleEpoch"     // the host has taken the delivery of a newer leader
	ReasonBaseMismatch   Reason = "BaseMismatch"   // the host's files change under our hands
	ReasonRolledBack     Reason = "RolledBack"     // the daemon did not take or not prove the configuration
	ReasonMachine        Reason = "Machine"        // the machine could not do it: disk full, daemon not running
	ReasonRefused        Reason = "Refused"        // fragments were left out
	ReasonUnproven       Reason = "Unproven"       // a delivery ended well, and something else is live
)

// Error says why a host does not run what is desired, and what to do.
type Error struct {
	Reason  Reason
	Message string
	Err     error // the cause; may be nil
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
