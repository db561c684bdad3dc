package render

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/external-lb/external-lb/internal/lb"
)

// maxDuration is the longest that the kinds allow.
const maxDuration = 24 * time.Hour

func checkFrontend(f *lb.Frontend) error {
	if !lb.Nginx.Carries(f.Listener.Protocol) {
		return fmt.Errorf("nginx cannot carry the protocol %q", f.Listener.Protocol)
	}
	if err := checkSocket(f.Listener.Address, f.Listener.Port); err != nil {
		return fmt.Errorf("listener: %w", err)
	}
	for _, b := range f.Backends {
		if err := checkSocket(b.Address.Addr(), b.Address.Port()); err != nil {
			return fmt.Errorf("backend: %w", err)
		}
	}
	for _, p := range f.Allow.Sources {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4() != f.Listener.Address.Is4() || p.Addr().Is4In6() {
			return fmt.Errorf("source range %s: want a masked prefix of the listener's family", p)
		}
	}
	return errors.Join(checkSettings(f.Settings, f.Listener.Protocol), checkHealth(f.Settings.HealthCheck))
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

func checkSettings(s lb.Settings, p lb.Protocol) error {
	switch s.Algorithm {
	case lb.RoundRobin, lb.LeastConnections, lb.SourceHash, lb.Random:
	default:
		return fmt.Errorf("nginx has no algorithm %q", s.Algorithm)
	}
	switch {
	case s.Mode != lb.ModeTCP:
		return fmt.Errorf("nginx has no mode %q", s.Mode)
	case s.SendProxy != lb.ProxyNone && s.SendProxy != lb.ProxyV1:
		return fmt.Errorf("nginx does not send the PROXY protocol %q", s.SendProxy)
	case p == lb.UDP && (s.SendProxy != lb.ProxyNone || s.AcceptProxy):
		return errors.New("nginx has no PROXY protocol for UDP")
	case s.Retries < 0 || s.MaxConnections < 0 || s.MaxConnectionsPerNode < 0 || s.MaxConnectionsPerClient < 0:
		return errors.New("negative retries or limits")
	}
	return errors.Join(checkDuration("connect timeout", s.ConnectTimeout), checkDuration("idle timeout", s.IdleTimeout))
}

func checkHealth(h lb.HealthCheck) error {
	switch h.Type {
	case lb.CheckNone:
		return nil
	case lb.CheckAuto:
		if h.Fall < 1 {
			return errors.New("fall is below 1")
		}
		return checkDuration("health check interval", h.Interval)
	default:
		return fmt.Errorf("nginx has no health check %q", h.Type)
	}
}

func checkDuration(what string, d time.Duration) error {
	if d <= 0 || d > maxDuration {
		return fmt.Errorf("%s of %s: want more than 0 and at most %s", what, d, maxDuration)
	}
	return nil
}
