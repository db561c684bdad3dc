package translate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

// field is one setting: how it is read from the kinds and written into the model.
type field struct {
	name string
	// byValue: engines differ by its value.
	byValue bool
	get     func(*v1alpha1.UpstreamSettings) string // "": not set
	set     func(*lb.Settings, string) error
}

// capability is the name of a field in engine.Fields.
func (f field) capability(value string) engine.Field {
	if f.byValue {
		return engine.Field(f.name + "=" + value)
	}
	return engine.Field(f.name)
}

// nothing holds the values that ask for nothing.
var nothing = map[string]string{"proxyProtocol.accept": "false", "http.redirectToHTTPS": "false", "http.maxBodyBytes": "0", "http.maxHeaderBytes": "0",
	"maxConnections": "0", "maxConnectionsPerNode": "0", "maxConnectionsPerClient": "0", "maxRatePerClient": "0", "maxQueue": "0", "retries": "0",
	"healthCheck.tcp": tcpCheck(&v1alpha1.TCPHealthCheck{}), "abortOnClose": "false",
	"accessLog": "true"}

// use is how a port is carried, as far as engines differ by it.
type use struct {
	protocol lb.Protocol
	mode     lb.Mode
}

// unsupported says why an engine cannot do the field with a value, "" if it can.
// Nothing can be done by each.
func (f field) unsupported(e *engine.Engine, value string, u use) string {
	if value == nothing[f.name] {
		return ""
	}
	if reason := e.Unsupported(f.capability(value), u.protocol); reason != "" {
		return reason
	}
	return e.NotInMode(f.capability(value), u.mode)
}

// modeField decides what others can be.
var modeField = field{"mode", true,
	func(s *v1alpha1.UpstreamSettings) string { return string(s.Mode) },
	func(s *lb.Settings, v string) error { s.Mode = lb.Mode(v); return nil }}

// fields are all settings that an UpstreamPolicy has. What differs by the mode comes after it.
var fields = []field{
	{"algorithm", true,
		func(s *v1alpha1.UpstreamSettings) string { return string(s.Algorithm) },
		func(s *lb.Settings, v string) error { s.Algorithm = lb.Algorithm(v); return nil }},
	modeField,
	{"http.redirectToHTTPS", false,
		func(s *v1alpha1.UpstreamSettings) string { return boolean(deref(s.HTTP).RedirectToHTTPS) },
		func(s *lb.Settings, v string) (err error) { s.RedirectToHTTPS, err = strconv.ParseBool(v); return err }},
	{"http.maxBodyBytes", false,
		func(s *v1alpha1.UpstreamSettings) string {
			if n := deref(s.HTTP).MaxBodyBytes; n != nil {
				return strconv.FormatInt(*n, 10)
			}
			return ""
		},
		func(s *lb.Settings, v string) error { return bodyBytes(&s.MaxBodyBytes, v) }},
	{"http.maxHeaderBytes", false,
		func(s *v1alpha1.UpstreamSettings) string { return number(deref(s.HTTP).MaxHeaderBytes) },
		func(s *lb.Settings, v string) error { return headerBytes(&s.MaxHeaderBytes, v) }},
	{"proxyProtocol.send", true,
		func(s *v1alpha1.UpstreamSettings) string { return string(deref(s.ProxyProtocol).Send) },
		func(s *lb.Settings, v string) error { s.SendProxy = lb.ProxyProtocol(v); return nil }},
	{"proxyProtocol.accept", false,
		func(s *v1alpha1.UpstreamSettings) string { return boolean(deref(s.ProxyProtocol).Accept) },
		func(s *lb.Settings, v string) (err error) { s.AcceptProxy, err = strconv.ParseBool(v); return err }},
	{"timeouts.connect", false,
		func(s *v1alpha1.UpstreamSettings) string { return string(deref(s.Timeouts).Connect) },
		func(s *lb.Settings, v string) error { return duration(&s.ConnectTimeout, v) }},
	{"timeouts.idle", false,
		func(s *v1alpha1.UpstreamSettings) string { return string(deref(s.Timeouts).Idle) },
		func(s *lb.Settings, v string) error { return duration(&s.IdleTimeout, v) }},
	{"timeouts.client", false,
		func(s *v1alpha1.UpstreamSettings) string { return string(deref(s.Timeouts).Client) },
		func(s *lb.Settings, v string) error { return duration(&s.ClientTimeout, v) }},
	{"timeouts.server", false,
		func(s *v1alpha1.UpstreamSettings) string { return string(deref(s.Timeouts).Server) },
		func(s *lb.Settings, v string) error { return duration(&s.ServerTimeout, v) }},
	{"timeouts.queue", false,
		func(s *v1alpha1.UpstreamSettings) string { return string(deref(s.Timeouts).Queue) },
		func(s *lb.Settings, v string) error { return duration(&s.QueueTimeout, v) }},
	{"timeouts.keepAlive", false,
		func(s *v1alpha1.UpstreamSettings) string { return string(deref(s.Timeouts).KeepAlive) },
		func(s *lb.Settings, v string) error { return keepAlive(&s.KeepAlive, v) }},
	{"healthCheck.type", true,
		func(s *v1alpha1.UpstreamSettings) string { return string(checkType(deref(s.HealthCheck))) },
		func(s *lb.Settings, v string) error { s.HealthCheck.Type = lb.HealthCheckType(v); return nil }},
	{"healthCheck.http", false,
		func(s *v1alpha1.UpstreamSettings) string {
			if h := deref(s.HealthCheck).HTTP; h != nil {
				return strconv.Itoa(int(deref(h.Port))) + " " + h.Path
			}
			return ""
		},
		func(s *lb.Settings, v string) error { return httpCheck(&s.HealthCheck, v) }},
	{"healthCheck.http.host", false,
		func(s *v1alpha1.UpstreamSettings) string { return deref(deref(s.HealthCheck).HTTP).Host },
		func(s *lb.Settings, v string) error { return host(&s.HealthCheck.Host, v) }},
	{"healthCheck.http.status", false,
		func(s *v1alpha1.UpstreamSettings) string { return deref(deref(s.HealthCheck).HTTP).Status },
		func(s *lb.Settings, v string) error { return status(&s.HealthCheck.Status, v) }},
	{"healthCheck.tcp", false,
		func(s *v1alpha1.UpstreamSettings) string { return tcpCheck(deref(s.HealthCheck).TCP) },
		func(s *lb.Settings, v string) error { return spoken(&s.HealthCheck, v) }},
	{"healthCheck.interval", false,
		func(s *v1alpha1.UpstreamSettings) string { return string(deref(s.HealthCheck).Interval) },
		func(s *lb.Settings, v string) error { return interval(&s.HealthCheck.Interval, v) }},
	{"healthCheck.timeout", false,
		func(s *v1alpha1.UpstreamSettings) string { return string(deref(s.HealthCheck).Timeout) },
		func(s *lb.Settings, v string) error { return duration(&s.HealthCheck.Timeout, v) }},
	{"healthCheck.rise", false,
		func(s *v1alpha1.UpstreamSettings) string { return number(deref(s.HealthCheck).Rise) },
		func(s *lb.Settings, v string) error { return count(&s.HealthCheck.Rise, v, 1, maxChecks) }},
	{"healthCheck.fall", false,
		func(s *v1alpha1.UpstreamSettings) string { return number(deref(s.HealthCheck).Fall) },
		func(s *lb.Settings, v string) error { return count(&s.HealthCheck.Fall, v, 1, maxChecks) }},
	{"maxConnections", false,
		func(s *v1alpha1.UpstreamSettings) string { return number(s.MaxConnections) },
		func(s *lb.Settings, v string) error { return count(&s.MaxConnections, v, 0, maxConnections) }},
	{"maxConnectionsPerNode", false,
		func(s *v1alpha1.UpstreamSettings) string { return number(s.MaxConnectionsPerNode) },
		func(s *lb.Settings, v string) error { return count(&s.MaxConnectionsPerNode, v, 0, maxConnections) }},
	{"maxQueue", false,
		func(s *v1alpha1.UpstreamSettings) string { return number(s.MaxQueue) },
		func(s *lb.Settings, v string) error { return count(&s.MaxQueue, v, 0, maxConnections) }},
	{"abortOnClose", false,
		func(s *v1alpha1.UpstreamSettings) string { return boolean(s.AbortOnClose) },
		func(s *lb.Settings, v string) (err error) { s.AbortOnClose, err = strconv.ParseBool(v); return err }},
	{"maxConnectionsPerClient", false,
		func(s *v1alpha1.UpstreamSettings) string { return number(s.MaxConnectionsPerClient) },
		func(s *lb.Settings, v string) error { return count(&s.MaxConnectionsPerClient, v, 0, maxConnections) }},
	{"maxRatePerClient", false,
		func(s *v1alpha1.UpstreamSettings) string { return number(s.MaxRatePerClient) },
		func(s *lb.Settings, v string) error { return count(&s.MaxRatePerClient, v, 0, lb.MostRate) }},
	{"accessLog", false,
		func(s *v1alpha1.UpstreamSettings) string { return boolean(s.AccessLog) },
		func(s *lb.Settings, v string) error {
			logged, err := strconv.ParseBool(v)
			s.NoAccessLog = !logged
			return err
		}},
	{"retries", false,
		func(s *v1alpha1.UpstreamSettings) string { return number(s.Retries) },
		func(s *lb.Settings, v string) error { return count(&s.Retries, v, 0, maxRetries) }},
	{"slowStart", false,
		func(s *v1alpha1.UpstreamSettings) string { return string(s.SlowStart) },
		func(s *lb.Settings, v string) error { return duration(&s.SlowStart, v) }},
	{"sourceAddresses", false,
		func(s *v1alpha1.UpstreamSettings) string { return sourceList(s.SourceAddresses) },
		func(s *lb.Settings, v string) error { return sourceAddresses(&s.Source, v) }},
	{"drain", false,
		func(s *v1alpha1.UpstreamSettings) string { return string(s.Drain) },
		func(s *lb.Settings, v string) error { return drain(&s.Drain, v) }},
}

// checkType is HTTP or TCP also where it is only said what such a check asks for.
func checkType(h v1alpha1.HealthCheck) v1alpha1.HealthCheckType {
	switch {
	case h.Type != "":
		return h.Type
	case h.HTTP != nil:
		return v1alpha1.HealthCheckHTTP
	case h.TCP != nil:
		return v1alpha1.HealthCheckTCP
	}
	return ""
}

// builtIn is below every other level.
func builtIn(e *engine.Engine, p lb.Protocol) lb.Settings {
	s := lb.Settings{
		Algorithm:      lb.RoundRobin,
		Mode:           lb.ModeTCP,
		SendProxy:      lb.ProxyNone,
		ConnectTimeout: time.Second,
		IdleTimeout:    10 * time.Minute,
		HealthCheck:    lb.HealthCheck{Type: lb.CheckAuto, Path: "/", Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3},
		Retries:        2,
	}
	if e.PassiveChecks {
		// With passive checks, a Service that had no endpoints fails on every node, and
		// clients are refused after it got some until its nodes are tried again.
		s.HealthCheck.Rise, s.HealthCheck.Fall = 1, 1
	}
	if p == lb.UDP {
		// Most of it is questions with one answer, as DNS: each holds a session until then.
		s.IdleTimeout = 10 * time.Second
	}
	return s
}

// check finds a value that cannot be read. The API server's schema refuses those,
// but manifests can come from files.
func (f field) check(value string) error {
	if f.byValue && !engine.Known(f.capability(value)) {
		return fmt.Errorf("%s: there is no %s", f.name, quoted(value))
	}
	var into lb.Settings
	if err := f.set(&into, value); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	return nil
}

// check finds the first value that cannot be read, or that contradicts another.
func check(s *v1alpha1.UpstreamSettings) error {
	switch h := deref(s.HealthCheck); {
	case h.HTTP != nil && checkType(h) != v1alpha1.HealthCheckHTTP:
		return fmt.Errorf("healthCheck.http is for checks of type HTTP, not %s: set type to HTTP, or leave it out", quoted(string(h.Type)))
	case h.TCP != nil && checkType(h) != v1alpha1.HealthCheckTCP:
		return fmt.Errorf("healthCheck.tcp is for checks of type TCP, not %s: set type to TCP, or leave it out", quoted(string(checkType(h))))
	}
	for _, f := range fields {
		if value := f.get(s); value != "" {
			if err := f.check(value); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkFor finds the first value of a policy that cannot be read, or that does not do
// for a Service: nobody makes the hosts ask nodes at a port that is not theirs.
func checkFor(s *v1alpha1.UpstreamSettings, svc *corev1.Service) error {
	if err := check(s); err != nil {
		return err
	}
	port := deref(deref(deref(s.HealthCheck).HTTP).Port)
	if port == 0 || port == engine.KubeProxyPort || port == svc.Spec.HealthCheckNodePort {
		return nil
	}
	if slices.ContainsFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.NodePort == port }) {
		return nil
	}
	return fmt.Errorf("healthCheck.http: port %d is not the Service's: nodes are asked at a nodePort of it, at its healthCheckNodePort, or at kube-proxy's %d",
		port, engine.KubeProxyPort)
}

func duration(into *time.Duration, v string) error {
	d, err := time.ParseDuration(v)
	if err != nil || d < time.Millisecond || d > lb.MaxDuration {
		return fmt.Errorf("%s is not a duration between 1ms and 24h, such as 500ms or 10s", quoted(v))
	}
	*into = d
	return nil
}

func interval(into *time.Duration, v string) error {
	d := *into
	if err := duration(&d, v); err != nil {
		return err
	}
	if d < lb.MinInterval {
		return fmt.Errorf("%s is too short: checks are %s apart at least", quoted(v), lb.MinInterval)
	}
	*into = d
	return nil
}

func keepAlive(into *time.Duration, v string) error {
	var d time.Duration
	if err := duration(&d, v); err != nil {
		return err
	}
	if d < lb.MinKeepAlive || d > lb.MaxKeepAlive {
		return fmt.Errorf("%s is not between 1s and 9h", quoted(v))
	}
	*into = d
	return nil
}

func drain(into *time.Duration, v string) error {
	d, err := time.ParseDuration(v)
	if err != nil || d == 0 || !lb.ValidDrain(d) {
		return fmt.Errorf("%s is not between 1s and 1h, in whole seconds", quoted(v))
	}
	*into = d
	return nil
}

// The bounds of the schema.
const (
	maxConnections = 10_000_000
	maxChecks      = 100
	maxRetries     = 15
)

func count(into *int32, v string, least, most int64) error {
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil || n < least || n > most {
		return fmt.Errorf("%s is not a number between %d and %d", v, least, most)
	}
	*into = int32(n)
	return nil
}

func bodyBytes(into *int64, v string) error {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 || n > lb.MostBodyBytes {
		return fmt.Errorf("%s is not a number between 0 and %d", v, int64(lb.MostBodyBytes))
	}
	*into = n
	return nil
}

func headerBytes(into *int32, v string) error {
	var n int32
	if err := count(&n, v, 0, lb.MostHeaderBytes); err != nil {
		return err
	}
	if n != 0 && n < lb.LeastHeaderBytes {
		return fmt.Errorf("%d is not a number between %d and %d, or 0", n, lb.LeastHeaderBytes, lb.MostHeaderBytes)
	}
	*into = n
	return nil
}

// httpCheck reads what the field's get wrote: the port, a space and the path.
func httpCheck(into *lb.HealthCheck, v string) error {
	number, path, _ := strings.Cut(v, " ")
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return fmt.Errorf("port %s is not between 1 and 65535", number)
	}
	if path == "" {
		path = "/"
	}
	if !lb.SafePath(path) {
		return fmt.Errorf("path %s is not one such as /healthz, of letters, digits and -._~/%%", quoted(path))
	}
	into.Port, into.Path = uint16(port), path
	return nil
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func boolean(b *bool) string {
	if b == nil {
		return ""
	}
	return strconv.FormatBool(*b)
}

func number(n *int32) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(int(*n))
}
