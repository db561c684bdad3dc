package engine

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/external-lb/external-lb/internal/lb"
)

// CheckService refuses what cannot be printed safely or an engine cannot do, also
// where the makers of the model rule it out. The frontends are sorted.
func (c *Capabilities) CheckService(engine string, s *Service) (lb.ID, []*Frontend, error) {
	id, err := lb.NewID(s.ID.Namespace, s.ID.Name, s.ID.UID)
	if err != nil {
		return id, nil, err
	}
	if len(s.Frontends) == 0 {
		return id, nil, errors.New("no frontends")
	}
	sorted := make([]*Frontend, len(s.Frontends))
	for i := range s.Frontends {
		sorted[i] = &s.Frontends[i]
	}
	slices.SortFunc(sorted, func(a, b *Frontend) int { return a.Listener.Compare(b.Listener) })
	for i, f := range sorted {
		if i > 0 && f.Listener == sorted[i-1].Listener {
			return id, nil, fmt.Errorf("two frontends for %s", f.Listener)
		}
		if err := c.checkFrontend(engine, f); err != nil {
			return id, nil, fmt.Errorf("frontend %s: %w", f.Listener, err)
		}
	}
	return id, sorted, nil
}

func (c *Capabilities) checkFrontend(engine string, f *Frontend) error {
	if !c.Carries(f.Listener.Protocol) {
		return fmt.Errorf("%s cannot carry the protocol %q", engine, f.Listener.Protocol)
	}
	if err := checkSocket(f.Listener.Address, f.Listener.Port); err != nil {
		return fmt.Errorf("listener: %w", err)
	}
	if f.Direct && !c.Direct {
		return fmt.Errorf("%s cannot let packets reach the nodes as they came", engine)
	}
	for _, b := range f.Backends {
		if err := checkSocket(b.Address.Addr(), b.Address.Port()); err != nil {
			return fmt.Errorf("backend: %w", err)
		}
		if b.Weight > lb.MaxWeight {
			return fmt.Errorf("backend %s: a weight of %d, want at most %d", b.Address, b.Weight, lb.MaxWeight)
		}
		if b.Draining && c.KeepsConnections {
			return fmt.Errorf("backend %s: %s keeps connections to nodes that it no longer has", b.Address, engine)
		}
		if b.Backup && c.Backups.Missing != "" {
			return fmt.Errorf("backend %s: %s lets no node wait for others", b.Address, engine)
		}
	}
	for _, p := range [...]netip.Prefix{f.Settings.Source.IPv4, f.Settings.Source.IPv6} {
		if p.IsValid() && (!p.IsSingleIP() || checkSocket(p.Addr(), 1) != nil) {
			return fmt.Errorf("source %s: want one plain unicast address", p)
		}
	}
	for _, p := range f.Allow.Sources {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4() != f.Listener.Address.Is4() || p.Addr().Is4In6() {
			return fmt.Errorf("source range %s: want a masked prefix of the listener's family", p)
		}
	}
	return errors.Join(c.checkSettings(engine, f.Settings, f.Listener.Protocol), checkHealth(f.Settings.HealthCheck))
}

// checkSocket refuses addresses that would be printed with more than numbers (a
// zone is free text), or that would take or reach more than one address.
func checkSocket(a netip.Addr, port uint16) error {
	switch {
	case !a.IsValid() || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast():
		return fmt.Errorf("%q is not one plain unicast address", a)
	case port == 0:
		return errors.New("port 0")
	}
	return nil
}

func (c *Capabilities) checkSettings(engine string, s lb.Settings, p lb.Protocol) error {
	if s.CloudCertificate != "" {
		return errors.New("tls: the certificate is one of a cloud's provider, and hosts have none of these")
	}
	for _, field := range [...]string{"algorithm=" + string(s.Algorithm), "mode=" + string(s.Mode),
		"proxyProtocol.send=" + string(s.SendProxy), "healthCheck.type=" + string(s.HealthCheck.Type)} {
		if reason := c.Unsupported(Field(field), lb.TCP); reason != "" {
			return fmt.Errorf("%.80q: %s", field, reason)
		}
	}
	switch {
	case s.Mode == lb.ModeHTTP && c.Unsupported("mode=HTTP", p) != "":
		return fmt.Errorf("mode: HTTP: %s", c.Unsupported("mode=HTTP", p))
	case c.NotInMode(Field("proxyProtocol.send="+string(s.SendProxy)), s.Mode) != "":
		return fmt.Errorf("proxyProtocol.send: %s", c.NotInMode(Field("proxyProtocol.send="+string(s.SendProxy)), s.Mode))
	case s.Mode != lb.ModeHTTP && (s.H2C || s.RedirectToHTTPS || s.MaxBodyBytes != 0 || s.MaxHeaderBytes != 0):
		return errors.New("settings for requests without mode: HTTP")
	case s.MaxHeaderBytes != 0 && (s.MaxHeaderBytes < lb.LeastHeaderBytes || s.MaxHeaderBytes > lb.MostHeaderBytes):
		return fmt.Errorf("headers of %d bytes", s.MaxHeaderBytes)
	case s.KeepAlive != 0 && (s.KeepAlive < lb.MinKeepAlive || s.KeepAlive > lb.MaxKeepAlive):
		return fmt.Errorf("keep-alive after %s", s.KeepAlive)
	case !lb.ValidDrain(s.Drain):
		return fmt.Errorf("a drain of %s", s.Drain)
	case s.MaxBodyBytes < 0 || s.MaxBodyBytes > lb.MostBodyBytes:
		return fmt.Errorf("a body of %d bytes", s.MaxBodyBytes)
	case p == lb.UDP && (s.SendProxy != lb.ProxyNone || s.AcceptProxy):
		return fmt.Errorf("%s has no PROXY protocol for UDP", engine)
	case s.AcceptProxy && c.Unsupported("proxyProtocol.accept", p) != "":
		return fmt.Errorf("proxyProtocol.accept: %s", c.Unsupported("proxyProtocol.accept", p))
	case s.Certificate != "" && c.Unsupported("tls.secretRef", p) != "":
		return fmt.Errorf("tls: %s", c.Unsupported("tls.secretRef", p))
	case !lb.SafeCertificate(s.Certificate):
		return fmt.Errorf("%.80q is not the name of a certificate", s.Certificate)
	case s.Retries < 0 || s.MaxConnections < 0 || s.MaxConnectionsPerNode < 0 || s.MaxConnectionsPerClient < 0 ||
		s.MaxQueue < 0 || s.MaxRatePerClient < 0 || s.MaxRatePerClient > lb.MostRate:
		return errors.New("retries or limits out of bounds")
	}
	return errors.Join(checkDuration("connect timeout", s.ConnectTimeout), checkDuration("idle timeout", s.IdleTimeout),
		checkDuration("client timeout", s.ClientIdle()), checkDuration("server timeout", s.ServerIdle()),
		checkDuration("queue timeout", s.QueueWait()), checkDuration("slow start", cmp.Or(s.SlowStart, 1)))
}

func checkHealth(h lb.HealthCheck) error {
	switch {
	case h.Type == lb.CheckNone:
		return nil
	case h.Fall < 1 || h.Rise < 1:
		return errors.New("rise or fall is below 1")
	case h.Type == lb.CheckHTTP && !lb.SafePath(h.Path):
		return fmt.Errorf("the path %.80q of the health check is not one of letters, digits and -._~/%%", h.Path)
	case !lb.SafeHost(h.Host) || !h.Status.Valid():
		return fmt.Errorf("the host %.80q or the status %s of the health check", h.Host, h.Status)
	case !lb.SafeHex(h.Send) || !lb.SafeHex(h.Expect):
		return errors.New("what the health check sends or expects is not in hex")
	}
	return errors.Join(checkDuration("health check interval", h.Interval), checkDuration("health check timeout", h.Timeout))
}

func checkDuration(what string, d time.Duration) error {
	if d <= 0 || d > lb.MaxDuration {
		return fmt.Errorf("%s of %s: want more than 0 and at most %s", what, d, lb.MaxDuration)
	}
	return nil
}
