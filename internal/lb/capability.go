package lb

import "slices"

// Engine is the software on the hosts.
type Engine string

// The engines.
const (
	Nginx Engine = "nginx"
)

// Engines lists every engine.
var Engines = []Engine{Nginx}

// Field is a setting of an UpstreamPolicy, named by its path in the kind, or by
// path=value where engines differ by value.
type Field string

// Support says what an engine does for a Field.
type Support struct {
	Field Field
	// Missing says why an engine cannot, in words for a user. An engine that is
	// not a key can.
	Missing map[Engine]string
}

// Capabilities is the one table of what engines can do: the statuses of
// policies, the documentation and the tests are made from it.
var Capabilities = []Support{
	{Field: "algorithm=RoundRobin"},
	{Field: "algorithm=LeastConnections"},
	{Field: "algorithm=SourceHash"},
	{Field: "algorithm=Random"},
	{Field: "mode=TCP"},
	{Field: "mode=HTTP", Missing: map[Engine]string{Nginx: "nginx carries Services at layer 4"}},
	{Field: "proxyProtocol.send=V1"},
	{Field: "proxyProtocol.send=V2", Missing: map[Engine]string{Nginx: "nginx sends only version 1 of the PROXY protocol"}},
	{Field: "proxyProtocol.accept"},
	{Field: "timeouts.connect"},
	{Field: "timeouts.idle"},
	{Field: "healthCheck.type=Auto"},
	{Field: "healthCheck.type=None"},
	{Field: "healthCheck.type=TCP", Missing: map[Engine]string{Nginx: "nginx judges nodes by the connections that it makes to them, it has no active checks"}},
	{Field: "healthCheck.type=HTTP", Missing: map[Engine]string{Nginx: "nginx judges nodes by the connections that it makes to them, it has no active checks"}},
	{Field: "healthCheck.interval"},
	{Field: "healthCheck.timeout", Missing: map[Engine]string{Nginx: "nginx has no active checks; timeouts.connect bounds its passive ones"}},
	{Field: "healthCheck.rise", Missing: map[Engine]string{Nginx: "nginx uses a node again after healthCheck.interval, it has no active checks"}},
	{Field: "healthCheck.fall"},
	{Field: "maxConnections"},
	{Field: "maxConnectionsPerNode"},
	{Field: "maxConnectionsPerClient"},
	{Field: "retries"},
	{Field: "drain", Missing: map[Engine]string{Nginx: "nginx keeps established connections to a node that leaves until they end or worker_shutdown_timeout of the host cuts them"}},
}

// Unsupported says why an engine cannot do a field, or "" if it can.
func (e Engine) Unsupported(field Field) string {
	i := slices.IndexFunc(Capabilities, func(s Support) bool { return s.Field == field })
	if i < 0 {
		return "no engine knows this field"
	}
	return Capabilities[i].Missing[e]
}

// Carries reports whether an engine can carry a protocol.
func (e Engine) Carries(p Protocol) bool {
	return e == Nginx && (p == TCP || p == UDP)
}
