package engine

import (
	"errors"
	"fmt"
	"slices"

	"github.com/external-lb/external-lb/internal/lb"
)

// Field is a setting of an UpstreamPolicy, named by its path in the kind, or by
// path=value where engines differ by value.
type Field string

// Fields are all settings. Every Engine states what becomes of each of them.
var Fields = []Field{
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
	"healthCheck.type=Auto",
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

// Known reports whether a field is one of Fields.
func Known(field Field) bool { return slices.Contains(Fields, field) }

// Capabilities are what an Engine can do: the statuses of policies, the
// documentation and the tests are made from them.
type Capabilities struct {
	Protocols []lb.Protocol
	// Direct: packets can reach the nodes as they came.
	Direct bool
	// PassiveChecks: nodes are judged by the connections of clients alone.
	PassiveChecks bool
	// SharesChecks: nodes are asked once for all Services that leave it to the engine how
	// (Auto) and have the same intervals.
	SharesChecks bool
	// KeepsConnections: those to a node live on when it is no longer a Backend.
	KeepsConnections bool
	// NoShares is why a host's owner cannot bound the connections of each Service; "": they can.
	NoShares string
	// Backups: nodes can wait for all others to fail.
	Backups Support
	// Fields has all of them: one that is missing is one that the Engine cannot do.
	Fields map[Field]Support
}

// Support says what an Engine does for a Field. Its parts are reasons, in words for
// a user, or empty.
type Support struct {
	Missing  string // why it cannot be done with any protocol
	UDP      string // why not with UDP or SCTP
	TCP      string // why not with mode: TCP
	HTTP     string // why not with mode: HTTP
	Affinity string // why not for a Service with sessionAffinity: ClientIP
	Note     string // a difference that a user may notice
}

// Able is the Support of a Field that is done as the kind says.
var Able = Support{}

// Stated says which Fields are not stated, and what is stated that is none of them:
// nothing is able by default.
func (c *Capabilities) Stated() error {
	var errs []error
	for _, f := range Fields {
		if _, stated := c.Fields[f]; !stated {
			errs = append(errs, fmt.Errorf("what becomes of %s is not stated", f))
		}
	}
	for f := range c.Fields {
		if !Known(f) {
			errs = append(errs, fmt.Errorf("%s is none of engine.Fields", f))
		}
	}
	if len(c.Protocols) == 0 {
		errs = append(errs, errors.New("no protocol is carried"))
	}
	return errors.Join(errs...)
}

// Unsupported says why an Engine cannot do a field for a protocol, or "" if it can.
func (c *Capabilities) Unsupported(field Field, p lb.Protocol) string {
	s, stated := c.Fields[field]
	switch {
	case !stated:
		return "no engine knows this setting"
	case s.Missing != "" || p == lb.TCP:
		return s.Missing
	}
	return s.UDP
}

// NotInMode says why an Engine that can do a field cannot in a mode, or "" if it can.
func (c *Capabilities) NotInMode(field Field, m lb.Mode) string {
	if m == lb.ModeHTTP {
		return c.Fields[field].HTTP
	}
	return c.Fields[field].TCP
}

// Overruled says why a field does nothing for a Service with session affinity,
// or "" if it does.
func (c *Capabilities) Overruled(field Field) string { return c.Fields[field].Affinity }

// Carries reports whether an Engine can carry a protocol.
func (c *Capabilities) Carries(p lb.Protocol) bool { return slices.Contains(c.Protocols, p) }

// Words that several engines say.
const (
	// TLSOverTCP is why tls.secretRef does nothing for other protocols.
	TLSOverTCP = "TLS is spoken over TCP; a port of another protocol is carried as it is"
	// InHTTPAlone is why the settings for requests do nothing without mode: HTTP.
	InHTTPAlone = "it is for mode: HTTP"
	// CheckAdvice is for hosts on which every node fails its check.
	CheckAdvice = "are the nodes up, does kube-proxy run there, and do firewalls let this host through to its port 10256?"
)
