package lb

import (
	"time"

	"github.com/external-lb/external-lb/internal/lb/lbpb"
)

func (r *reader) settings(m *lbpb.Settings) Settings {
	s := Settings{
		Algorithm: word(r, algorithms, "algorithm", m.GetAlgorithm()), Mode: word(r, modes, "mode", m.GetMode()),
		SendProxy: word(r, proxyProtocols, "PROXY protocol", m.GetSendProxy()), AcceptProxy: m.GetAcceptProxy(),
		ConnectTimeout: r.duration("connect timeout", m.GetConnectTimeout(), false), IdleTimeout: r.duration("idle timeout", m.GetIdleTimeout(), false),
		ClientTimeout: r.duration("client timeout", m.GetClientTimeout(), true), ServerTimeout: r.duration("server timeout", m.GetServerTimeout(), true),
		QueueTimeout: r.duration("queue timeout", m.GetQueueTimeout(), true), SlowStart: r.duration("slow start", m.GetSlowStart(), true),
		MaxQueue:                r.count("maxQueue", m.GetMaxQueue(), 0, maxLimit),
		MaxConnections:          r.count("maxConnections", m.GetMaxConnections(), 0, maxLimit),
		MaxConnectionsPerNode:   r.count("maxConnectionsPerNode", m.GetMaxConnectionsPerNode(), 0, maxLimit),
		MaxConnectionsPerClient: r.count("maxConnectionsPerClient", m.GetMaxConnectionsPerClient(), 0, maxLimit),
		MaxRatePerClient:        r.count("maxRatePerClient", m.GetMaxRatePerClient(), 0, MostRate),
		Retries:                 r.count("retries", m.GetRetries(), 0, maxTries),
		Certificate:             m.GetCertificate(),
		CloudCertificate:        m.GetCloudCertificate(),
		H2C:                     m.GetH2C(),
		RedirectToHTTPS:         m.GetRedirectToHttps(),
		MaxBodyBytes:            m.GetMaxBodyBytes(),
		MaxHeaderBytes:          r.count("maxHeaderBytes", m.GetMaxHeaderBytes(), 0, MostHeaderBytes),
		AbortOnClose:            m.GetAbortOnClose(),
		KeepAlive:               time.Duration(m.GetKeepAlive()),
		NoAccessLog:             m.GetNoAccessLog(),
		Drain:                   time.Duration(m.GetDrain()),
	}
	if !ValidDrain(s.Drain) {
		r.fail("a drain of %s: want between %s and %s, in whole seconds", s.Drain, MinDrain, MaxDrain)
	}
	if from := m.GetSourceIpv4(); from != nil {
		s.Source.IPv4 = r.prefix("source address", from, true)
	}
	if from := m.GetSourceIpv6(); from != nil {
		s.Source.IPv6 = r.prefix("source address", from, false)
	}
	if s.KeepAlive != 0 && (s.KeepAlive < MinKeepAlive || s.KeepAlive > MaxKeepAlive) {
		r.fail("keep-alive after %s: want between %s and %s", s.KeepAlive, MinKeepAlive, MaxKeepAlive)
	}
	if s.MaxBodyBytes < 0 || s.MaxBodyBytes > MostBodyBytes {
		r.fail("a body of %d bytes: want at most %d", s.MaxBodyBytes, int64(MostBodyBytes))
	}
	if s.MaxHeaderBytes != 0 && s.MaxHeaderBytes < LeastHeaderBytes {
		r.fail("headers of %d bytes: want at least %d", s.MaxHeaderBytes, LeastHeaderBytes)
	}
	if !SafeCertificate(s.Certificate) {
		r.fail("%.80q is not the name of a certificate", s.Certificate)
	}
	if !SafeOffer(s.CloudCertificate) {
		r.fail("the certificate %.80q is not a DNS label", s.CloudCertificate)
	}
	s.HealthCheck = r.healthCheck(m.GetHealthCheck())
	return s
}

func (r *reader) healthCheck(m *lbpb.HealthCheck) HealthCheck {
	h := HealthCheck{Type: word(r, checkTypes, "health check", m.GetType())}
	if h.Type == CheckNone {
		return h
	}
	h.TLS, h.Path, h.Port = m.GetTls(), m.GetPath(), r.port("health check", m.GetPort())
	h.Interval, h.Timeout = r.duration("health check interval", m.GetInterval(), false), r.duration("health check timeout", m.GetTimeout(), false)
	if h.Interval < MinInterval {
		r.fail("health check interval of %s: want between %s and %s", h.Interval, MinInterval, MaxDuration)
	}
	h.Rise, h.Fall = r.count("rise", m.GetRise(), 1, maxTries), r.count("fall", m.GetFall(), 1, maxTries)
	if (h.Path != "" || h.Type == CheckHTTP) && !SafePath(h.Path) {
		r.fail("the path %.80q of the health check: want / and up to 255 letters, digits and -._~/%%", h.Path)
	}
	if h.Host = m.GetHost(); !SafeHost(h.Host) {
		r.fail("the host %.80q of the health check is not a name", h.Host)
	}
	const status = "status of the health check"
	h.Status = Status{uint16(r.count(status, m.GetStatusFrom(), 0, 599)), uint16(r.count(status, m.GetStatusTo(), 0, 599))}
	if !h.Status.Valid() {
		r.fail("the status %s of the health check: want codes from 100 to 599", h.Status)
	}
	if h.Send, h.Expect = m.GetSend(), m.GetExpect(); !SafeHex(h.Send) || !SafeHex(h.Expect) {
		r.fail("what the health check sends, %.80q, or expects, %.80q: want up to 256 bytes in hex", h.Send, h.Expect)
	}
	return h
}
