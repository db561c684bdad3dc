package provider

import (
	"fmt"
	"slices"
)

// Setting is something that clouds can do or not, by its name.
type Setting string

// PolicySettings are those of an UpstreamPolicy, named by their paths in the kind, or by
// path=value where clouds differ by value.
var PolicySettings = []Setting{
	"algorithm=RoundRobin",
	"algorithm=LeastConnections",
	"algorithm=SourceHash",
	"algorithm=Random",
	"algorithm=DestinationHash",
	"algorithm=ShortestExpectedDelay",
	"algorithm=NeverQueue",
	"mode=TCP",
	"mode=HTTP",
	"http.redirectToHTTPS",
	"http.maxBodyBytes",
	"http.maxHeaderBytes",
	"proxyProtocol.send=None",
	"proxyProtocol.send=V1",
	"proxyProtocol.send=V2",
	"proxyProtocol.accept",
	"timeouts.connect",
	"timeouts.idle",
	"timeouts.client",
	"timeouts.server",
	"timeouts.queue",
	"timeouts.keepAlive",
	"healthCheck.type=Auto", // sent as HTTP, at a port that is not the NodePort
	"healthCheck.type=None",
	"healthCheck.type=TCP",
	"healthCheck.type=HTTP",
	"healthCheck.http",
	"healthCheck.http.host",
	"healthCheck.http.status",
	"healthCheck.tcp",
	"healthCheck.interval",
	"healthCheck.timeout",
	"healthCheck.rise",
	"healthCheck.fall",
	"maxConnections",
	"maxConnectionsPerNode",
	"maxQueue",
	"abortOnClose",
	"maxConnectionsPerClient",
	"maxRatePerClient",
	"accessLog",
	"retries",
	"slowStart",
	"sourceAddresses",
	"drain",
	"tls.secretRef",
}

// Unsaid are the settings that v1 has no words for, so that nobody is able to do them.
var Unsaid = []Setting{"http.redirectToHTTPS", "http.maxBodyBytes", "http.maxHeaderBytes", "timeouts.client", "timeouts.server", "timeouts.queue", "timeouts.keepAlive",
	"accessLog", "healthCheck.http.host", "healthCheck.http.status", "healthCheck.tcp", "maxQueue", "abortOnClose", "maxRatePerClient", "slowStart", "sourceAddresses", "drain", "tls.secretRef"}

// What clouds differ in beside the policies.
const (
	SessionAffinity Setting = "sessionAffinity" // Spec.AffinitySeconds
	SourceRanges    Setting = "sourceRanges"    // Family.Sources that are not everybody
	Weights         Setting = "weights"         // Member.Weight other than 1
	WantedAddress   Setting = "wantedAddress"   // Family.Address
	GivenAddress    Setting = "givenAddress"    // a Family without it: the cloud chooses
	DualStack       Setting = "dualStack"       // two Families
	Certificates    Setting = "certificates"    // Listener.Certificate
)

// AllSettings are those that every provider states something of.
func AllSettings() []Setting {
	return append(slices.Clone(PolicySettings), SessionAffinity, SourceRanges, Weights, WantedAddress, GivenAddress, DualStack, Certificates)
}

// Capabilities are what a provider's cloud can do.
type Capabilities struct {
	Name      string     `json:"name"` // of the provider, as openstack
	Version   string     `json:"version"`
	Protocols []Protocol `json:"protocols"`
	Families  []IPFamily `json:"families"`
	// KeepsConnections: those to a node live on when it is no longer a member.
	KeepsConnections bool `json:"keepsConnections,omitempty"`
	// Limits of one load balancer. 0: those of the contract.
	MaxListeners int32 `json:"maxListeners,omitempty"`
	MaxMembers   int32 `json:"maxMembers,omitempty"`
	MaxSources   int32 `json:"maxSources,omitempty"`
	// Flavors are the names of those that Spec.Flavor may ask for, for people. A server takes
	// others, too: what becomes of them the Cloud says.
	Flavors []string `json:"flavors,omitempty"`
	// Certificates are the names of those that Listener.Certificate may ask for. A server takes
	// others, too: what becomes of them the Cloud says.
	Certificates []string `json:"certificates,omitempty"`
	// Settings has AllSettings. What is missing is one that the cloud cannot do.
	Settings map[Setting]Support `json:"settings"`
}

// Support says what a cloud does for a Setting. Its parts are reasons, in words for a user,
// or empty. The zero Support is that it does what the setting says.
type Support struct {
	Missing  string `json:"missing,omitempty"`  // why it cannot be done with any protocol
	UDP      string `json:"udp,omitempty"`      // why not with UDP or SCTP
	Affinity string `json:"affinity,omitempty"` // why it does nothing together with sessionAffinity
	Note     string `json:"note,omitempty"`     // a difference that a user may notice
}

// Able is the Support of a Setting that is done as it says.
var Able = Support{}

// Unsupported says why a Setting cannot be done for a protocol, or "" if it can.
func (c Capabilities) Unsupported(s Setting, p Protocol) string {
	support, stated := c.Settings[s]
	switch {
	case !stated:
		return "the provider does not know this setting"
	case support.Missing != "" || p == TCP:
		return support.Missing
	}
	return support.UDP
}

func (c Capabilities) able(s Setting, p Protocol) bool { return c.Unsupported(s, p) == "" }

// choice is a setting with values.
type choice struct {
	name   string
	of     func(*Settings) *string
	values []string
}

var choices = []choice{
	{"algorithm", func(s *Settings) *string { return &s.Algorithm },
		[]string{RoundRobin, LeastConnections, SourceHash, Random, DestinationHash, ShortestExpectedDelay, NeverQueue}},
	{"mode", func(s *Settings) *string { return &s.Mode }, []string{ModeTCP, ModeHTTP}},
	{"proxyProtocol.send", func(s *Settings) *string { return &s.SendProxy }, []string{ProxyNone, ProxyV1, ProxyV2}},
	{"healthCheck.type", func(s *Settings) *string { return &s.HealthCheck.Type }, []string{CheckNone, CheckTCP, CheckHTTP}},
}

func (c choice) setting(value string) Setting { return Setting(c.name + "=" + value) }

// number is a setting that has one.
type number struct {
	name    Setting
	of      func(*Settings) *int32
	must    bool // 0 is no value
	ofCheck bool // of which nothing is there where there is no health check
}

var numbers = []number{
	{"timeouts.connect", func(s *Settings) *int32 { return &s.ConnectTimeoutMilliseconds }, true, false},
	{"timeouts.idle", func(s *Settings) *int32 { return &s.IdleTimeoutMilliseconds }, true, false},
	{"maxConnections", func(s *Settings) *int32 { return &s.MaxConnections }, false, false},
	{"maxConnectionsPerNode", func(s *Settings) *int32 { return &s.MaxConnectionsPerNode }, false, false},
	{"maxConnectionsPerClient", func(s *Settings) *int32 { return &s.MaxConnectionsPerClient }, false, false},
	{"retries", func(s *Settings) *int32 { return &s.Retries }, false, false},
	{"healthCheck.interval", func(s *Settings) *int32 { return &s.HealthCheck.IntervalMilliseconds }, true, true},
	{"healthCheck.timeout", func(s *Settings) *int32 { return &s.HealthCheck.TimeoutMilliseconds }, true, true},
	{"healthCheck.rise", func(s *Settings) *int32 { return &s.HealthCheck.Rise }, true, true},
	{"healthCheck.fall", func(s *Settings) *int32 { return &s.HealthCheck.Fall }, true, true},
}

// Prune leaves of full Settings what a Listener of the protocol is sent: a value that cannot
// be done becomes the first one that can.
func (c Capabilities) Prune(p Protocol, full Settings) Settings {
	for _, ch := range choices {
		value := ch.of(&full)
		if c.able(ch.setting(*value), p) {
			continue
		}
		*value = ""
		if i := slices.IndexFunc(ch.values, func(v string) bool { return c.able(ch.setting(v), p) }); i >= 0 {
			*value = ch.values[i]
		}
	}
	for _, n := range numbers {
		if !c.able(n.name, p) {
			*n.of(&full) = 0
		}
	}
	full.AcceptProxy = full.AcceptProxy && c.able("proxyProtocol.accept", p)
	check := &full.HealthCheck
	if check.Type == CheckNone || check.Type == "" {
		*check = HealthCheck{Type: check.Type}
	}
	if check.Type != CheckHTTP || !c.able("healthCheck.http", p) {
		check.Path, check.Port = "", 0
	}
	return full
}

// checkSettings says which of a Listener's Settings the provider cannot do, or lacks.
func (c Capabilities) checkSettings(field string, l Listener) *Error {
	s := l.Settings
	for _, ch := range choices {
		value := *ch.of(&s)
		switch {
		case value == "" && slices.ContainsFunc(ch.values, func(v string) bool { return c.able(ch.setting(v), l.Protocol) }):
			return invalid(field, "%s is missing", ch.name)
		case value == "":
		case !slices.Contains(ch.values, value):
			return invalid(field, "%s: there is no %q", ch.name, value)
		default:
			if err := c.unsupported(ch.setting(value), l); err != nil {
				return err
			}
		}
	}
	for _, n := range numbers {
		pointless := n.ofCheck && (s.HealthCheck.Type == CheckNone || s.HealthCheck.Type == "")
		switch value := *n.of(&s); {
		case value < 0 || value > maxNumber:
			return invalid(field, "%s: %d is not from 0 to %d", n.name, value, maxNumber)
		case value == 0 && n.must && !pointless && c.able(n.name, l.Protocol):
			return invalid(field, "%s is missing", n.name)
		case value != 0 && pointless:
			return invalid(field, "%s without a health check", n.name)
		case value != 0:
			if err := c.unsupported(n.name, l); err != nil {
				return err
			}
		}
	}
	if s.AcceptProxy {
		if err := c.unsupported("proxyProtocol.accept", l); err != nil {
			return err
		}
	}
	return c.checkHTTP(field, l)
}

func (c Capabilities) checkHTTP(field string, l Listener) *Error {
	check := l.Settings.HealthCheck
	switch {
	case check.Path == "" && check.Port == 0:
		if check.Type == CheckHTTP && c.able("healthCheck.http", l.Protocol) {
			return invalid(field, "the path of healthCheck.http is missing")
		}
		return nil
	case check.Type != CheckHTTP:
		return invalid(field, "healthCheck.http without such a health check")
	}
	return c.unsupported("healthCheck.http", l)
}

func (c Capabilities) unsupported(s Setting, l Listener) *Error {
	why := c.Unsupported(s, l.Protocol)
	if why == "" {
		return nil
	}
	return &Error{Code: Unsupported, Field: string(s), Message: fmt.Sprintf("%s: %s", l, why)}
}
