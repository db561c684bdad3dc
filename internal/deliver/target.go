package deliver

import (
	"bytes"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// Target is a host that a Balancer names, with all that it takes to reach it.
type Target struct {
	Balancer    string    // by name
	Since       time.Time // when the Balancer was made
	Cluster     string    // on whose behalf the host is asked: see host.Delivery
	Engine      string    // that the host must be prepared for, as host.Status has it; "": any
	Host        v1alpha1.Host
	Provider    *Provider     // that is reached in place of a machine; nil: Host is one
	PrivateKey  []byte        // ssh-privatekey of the Secret
	KnownHosts  []byte        // known_hosts of the Secret
	MinInterval time.Duration // between the starts of two reloads
	Slow        int           // attempts in a row that the host had too little time for, maxSlow at most: it is given more
	Problem     error         // why the host is not to be reached: its Secret is missing, the machine is another's
}

// Provider is how a program is reached that makes a cloud's load balancers.
type Provider struct {
	URL   string
	Token []byte // of the Secret
	Roots []byte // ca.crt of the Secret; nil: those of the system
}

func (p *Provider) same(o *Provider) bool {
	if p == nil || o == nil {
		return p == o
	}
	return p.URL == o.URL && bytes.Equal(p.Token, o.Token) && bytes.Equal(p.Roots, o.Roots)
}

// Endpoint is where sshd listens, 192.0.2.5:22, or a provider's URL.
func (t Target) Endpoint() string {
	if t.Provider != nil {
		return t.Provider.URL
	}
	return net.JoinHostPort(t.Host.Address, strconv.Itoa(t.port()))
}

// Machine is what the target names, the same for every way to write an address.
func (t Target) Machine() string {
	if t.Host.Local != nil {
		return "local"
	}
	address := strings.ToLower(t.Host.Address)
	if ip, err := netip.ParseAddr(address); err == nil {
		address = ip.Unmap().String()
	}
	return net.JoinHostPort(address, strconv.Itoa(t.port()))
}

func (t Target) port() int {
	if t.Host.Port == 0 {
		return 22
	}
	return int(t.Host.Port)
}

// user to log in as.
func (t Target) user() string {
	if t.Host.User == "" {
		return "external-lb"
	}
	return t.Host.User
}

// sameMachine reports whether both name one machine: what the first was proved
// to run, the second runs.
func (t Target) sameMachine(o Target) bool {
	return (t.Host.Local != nil) == (o.Host.Local != nil) && t.Endpoint() == o.Endpoint()
}

// sameAccess reports whether a connection to the first is one to the second.
func (t Target) sameAccess(o Target) bool {
	return t.sameMachine(o) && t.user() == o.user() &&
		bytes.Equal(t.PrivateKey, o.PrivateKey) && bytes.Equal(t.KnownHosts, o.KnownHosts) &&
		t.Provider.same(o.Provider) && problemText(t.Problem) == problemText(o.Problem)
}

func problemText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
