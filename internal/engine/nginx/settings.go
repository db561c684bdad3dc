package nginx

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
)

// Settings are how the machine's nginx is used. Commands are argument
// lists; no shell sees them.
type Settings struct {
	Binary   string   `json:"binary,omitempty"`
	Check    []string `json:"check,omitempty"`    // tests a candidate by itself, with CheckConf
	CheckAll []string `json:"checkAll,omitempty"` // tests the whole configuration
	Reload   []string `json:"reload,omitempty"`   // tests it, too, and loads it
	Log      []string `json:"log,omitempty"`      // prints the end of the daemon's error log

	Conf        string `json:"conf,omitempty"`        // the owner's main file
	CheckConf   string `json:"checkConf,omitempty"`   // the file around a candidate
	IncludeConf string `json:"includeConf,omitempty"` // what the owner's stream block includes
	HTTPConf    string `json:"httpConf,omitempty"`    // what the owner's http block includes
	PIDFile     string `json:"pidFile,omitempty"`

	// Proof is where nginx says which configuration it runs. It is an address of
	// the loopback and not a unix socket: the file of a socket outlives a daemon
	// that was killed, and nginx then refuses to start. Its port is privileged, so
	// that only root can pretend to be nginx.
	Proof string `json:"proof,omitempty"`
	// ProofTimeout is how long a reload may take.
	ProofTimeout engine.Duration `json:"proofTimeout,omitempty"`
}

// SetDefaults of what is not set.
func (n *Settings) SetDefaults(_, _ string, sudo bool) {
	engine.SetDefault(&n.Binary, "/usr/sbin/nginx")
	engine.SetDefault(&n.Conf, "/etc/nginx/nginx.conf")
	engine.SetDefault(&n.CheckConf, "/etc/external-lb/nginx-check.conf")
	engine.SetDefault(&n.IncludeConf, "/etc/external-lb/nginx-stream.conf")
	engine.SetDefault(&n.HTTPConf, "/etc/external-lb/nginx-http.conf")
	engine.SetDefault(&n.PIDFile, "/run/nginx.pid")
	engine.SetDefault(&n.Proof, "127.0.76.66:776")
	engine.SetDefaultDuration(&n.ProofTimeout, 30*time.Second)
	engine.SetDefaultCommand(&n.Check, sudo, n.Binary, "-t", "-q", "-c", n.CheckConf)
	engine.SetDefaultCommand(&n.CheckAll, sudo, n.Binary, "-t", "-q", "-c", n.Conf)
	engine.SetDefaultCommand(&n.Reload, sudo, n.Binary, "-s", "reload")
	engine.SetDefaultCommand(&n.Log, sudo, "/usr/bin/tail", "-c", "65536", "/var/log/nginx/error.log")
}

// Validate says what is wrong.
func (n *Settings) Validate() []error {
	errs := engine.CheckPaths(map[string]string{"nginx.binary": n.Binary, "nginx.conf": n.Conf,
		"nginx.checkConf": n.CheckConf, "nginx.includeConf": n.IncludeConf, "nginx.httpConf": n.HTTPConf, "nginx.pidFile": n.PIDFile})
	if filepath.Dir(n.CheckConf) == filepath.Dir(n.Conf) {
		errs = append(errs, errors.New("nginx.checkConf: must be in another directory than nginx.conf, since certificates are found from there"))
	}
	if proof, err := netip.ParseAddrPort(n.Proof); err != nil || proof.Port() == 0 || !proof.Addr().IsLoopback() {
		errs = append(errs, fmt.Errorf("nginx.proof: %q is not address:port of the loopback", n.Proof))
	}
	return errs
}
