package lb

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// Settings are how one Frontend is carried: every level of precedence is
// resolved, so every field has its effective value.
type Settings struct {
	Algorithm               Algorithm
	Mode                    Mode
	SendProxy               ProxyProtocol
	AcceptProxy             bool
	ConnectTimeout          time.Duration
	IdleTimeout             time.Duration
	ClientTimeout           time.Duration // of the client's side; 0: IdleTimeout
	ServerTimeout           time.Duration // of the node's side; 0: IdleTimeout
	QueueTimeout            time.Duration // in which a node must have room; 0: ConnectTimeout
	KeepAlive               time.Duration // silence after which TCP asks who is there; 0: as the host has it
	NoAccessLog             bool          // connections and requests are not logged
	HealthCheck             HealthCheck
	MaxConnections          int32 // 0: no limit
	MaxConnectionsPerNode   int32 // 0: no limit
	MaxConnectionsPerClient int32 // 0: no limit
	MaxRatePerClient        int32 // of new connections, per second; 0: no limit
	Retries                 int32
	MaxQueue                int32         // connections that wait for a node with room; 0: no limit
	AbortOnClose            bool          // what a client waits for is given up when it closes its connection
	SlowStart               time.Duration // in which a node that was down comes to its share; 0: at once
	Drain                   time.Duration // for which connections are served whose Backend or Frontend has gone; 0: as long as they last
	// Certificate is the name of the one with which TLS is terminated. "": it is not.
	Certificate string
	// CloudCertificate is the name of one that a cloud's provider offers, a DNS label, with which
	// TLS is terminated. "": it is not. Hosts have none.
	CloudCertificate string
	// H2C: with ModeHTTP, Backends are spoken to in HTTP/2, in plain text.
	H2C bool
	// RedirectToHTTPS: with ModeHTTP, requests are redirected instead of carried.
	RedirectToHTTPS bool
	// MaxBodyBytes of a request, with ModeHTTP. 0: no limit.
	MaxBodyBytes int64
	// MaxHeaderBytes of a request, with ModeHTTP. 0: as many as the engine takes.
	MaxHeaderBytes int32
	// Source is where connections to Backends come from.
	Source Source
}

// Source says from which address of a host connections to Backends come: from one in here, by
// the family of the Listener. The zero Prefix: the host's kernel chooses.
type Source struct{ IPv4, IPv6 netip.Prefix }

// Of a family.
func (s *Source) Of(ipv4 bool) *netip.Prefix {
	if ipv4 {
		return &s.IPv4
	}
	return &s.IPv6
}

// ClientIdle is for how long a client may be silent.
func (s *Settings) ClientIdle() time.Duration { return cmp.Or(s.ClientTimeout, s.IdleTimeout) }

// ServerIdle is for how long a node may be silent.
func (s *Settings) ServerIdle() time.Duration { return cmp.Or(s.ServerTimeout, s.IdleTimeout) }

// QueueWait is for how long a connection waits for a node with room.
func (s *Settings) QueueWait() time.Duration { return cmp.Or(s.QueueTimeout, s.ConnectTimeout) }

// MinKeepAlive and MaxKeepAlive bound KeepAlive. The kernel has no longer one.
const MinKeepAlive, MaxKeepAlive = time.Second, 9 * time.Hour

// MinDrain and MaxDrain bound Drain, which is in whole seconds.
const MinDrain, MaxDrain = time.Second, time.Hour

// ValidDrain reports whether a time is one for Drain.
func ValidDrain(d time.Duration) bool {
	return d == 0 || d >= MinDrain && d <= MaxDrain && d%time.Second == 0
}

// MostBodyBytes bounds MaxBodyBytes.
const MostBodyBytes = 1 << 40

// LeastHeaderBytes and MostHeaderBytes bound MaxHeaderBytes: a host has them in memory.
const LeastHeaderBytes, MostHeaderBytes = 1 << 10, 64 << 10

// MostRate bounds MaxRatePerClient.
const MostRate = 1_000_000

// Algorithm chooses the Backend of a new connection.
type Algorithm string

// The algorithms.
const (
	RoundRobin       Algorithm = "RoundRobin"
	LeastConnections Algorithm = "LeastConnections"
	SourceHash       Algorithm = "SourceHash"
	Random           Algorithm = "Random"
	// Those that IPVS alone has.
	DestinationHash       Algorithm = "DestinationHash"
	ShortestExpectedDelay Algorithm = "ShortestExpectedDelay"
	NeverQueue            Algorithm = "NeverQueue"
)

// Mode is what the balancer understands of the traffic.
type Mode string

// The modes.
const (
	ModeTCP  Mode = "TCP"
	ModeHTTP Mode = "HTTP"
)

// ProxyProtocol is the version of the PROXY protocol that Backends are sent.
type ProxyProtocol string

// The versions of the PROXY protocol.
const (
	ProxyNone ProxyProtocol = "None"
	ProxyV1   ProxyProtocol = "V1"
	ProxyV2   ProxyProtocol = "V2"
)

// HealthCheckType says how Backends are judged.
type HealthCheckType string

// The health checks.
const (
	CheckAuto HealthCheckType = "Auto"
	CheckTCP  HealthCheckType = "TCP"
	CheckHTTP HealthCheckType = "HTTP"
	CheckNone HealthCheckType = "None"
)

// HealthCheck says how Backends are judged. With CheckNone nothing else counts, and
// nothing else is sent.
type HealthCheck struct {
	Type              HealthCheckType
	Path              string // of CheckHTTP; in the alphabet [-A-Za-z0-9._~/%]
	Port              uint16 // of CheckHTTP; 0: the Backend's
	Host              string // of CheckHTTP, its header; in the alphabet [-a-z0-9.]; "": the engine's
	Status            Status // of CheckHTTP: codes of a good answer
	Send, Expect      string // of CheckTCP: bytes, of which a good answer has those of Expect in it; in hex
	Interval, Timeout time.Duration
	Rise, Fall        int32
	// TLS: with CheckHTTP, asked over TLS. Nobody verifies the certificate: the answer
	// decides only who is asked next.
	TLS bool
}

// Status is a range of status codes of HTTP. The zero Status is 200 to 399.
type Status struct{ From, To uint16 }

// String prints a Status as 200 or 200-399.
func (s Status) String() string {
	switch {
	case s == Status{}:
		return "200-399"
	case s.From == s.To:
		return strconv.Itoa(int(s.From))
	}
	return fmt.Sprintf("%d-%d", s.From, s.To)
}

// Valid reports whether there are such codes.
func (s Status) Valid() bool { return s == Status{} || 100 <= s.From && s.From <= s.To && s.To <= 599 }
