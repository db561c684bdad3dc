package host

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// SettingsPath is where a machine's settings are, owned by root.
const SettingsPath = "/etc/external-lb/host.yaml"

// Settings are what a balancer machine's administrator decides: which daemon
// runs, how it is checked and reloaded, and where files are written. Nothing of
// it ever comes over the wire.
type Settings struct {
	Engine  string          `json:"engine,omitempty"` // nginx, haproxy or lvs
	Root    string          `json:"root,omitempty"`   // everything that is written lies below it
	Nginx   NginxSettings   `json:"nginx"`
	HAProxy HAProxySettings `json:"haproxy"`
	// VRRP: keepalived moves the addresses between this machine and others.
	VRRP       bool               `json:"vrrp,omitempty"`
	Keepalived KeepalivedSettings `json:"keepalived"`
}

// The engines that a machine can have.
const (
	EngineNginx   = "nginx"
	EngineHAProxy = "haproxy"
	EngineLVS     = "lvs" // IPVS, kept by keepalived
)

// dir is where the engine's files are.
func (s *Settings) dir() string { return filepath.Join(s.Root, s.Engine) }

// vrrpDir is where the files are that move addresses.
func (s *Settings) vrrpDir() string {
	if s.Engine == EngineLVS {
		return s.dir() // one keepalived does both
	}
	return filepath.Join(s.Root, "keepalived")
}

// twoDaemons reports whether keepalived runs beside the engine's daemon.
func (s *Settings) twoDaemons() bool { return s.VRRP && s.Engine != EngineLVS }

// NginxSettings are how the machine's nginx is used. Commands are argument
// lists; no shell sees them.
type NginxSettings struct {
	Binary string   `json:"binary,omitempty"`
	Check  []string `json:"check,omitempty"`  // tests a candidate by itself, with CheckConf
	Reload []string `json:"reload,omitempty"` // tests the whole configuration and loads it
	Log    []string `json:"log,omitempty"`    // prints the end of the daemon's error log

	Conf        string `json:"conf,omitempty"`        // the owner's main file
	CheckConf   string `json:"checkConf,omitempty"`   // the file around a candidate
	IncludeConf string `json:"includeConf,omitempty"` // what the owner's stream block includes
	PIDFile     string `json:"pidFile,omitempty"`

	// Proof is where nginx says which configuration it runs. It is an address of
	// the loopback and not a unix socket: the file of a socket outlives a daemon
	// that was killed, and nginx then refuses to start. Its port is privileged, so
	// that only root can pretend to be nginx.
	Proof string `json:"proof,omitempty"`
	// ProofTimeout is how long a reload may take.
	ProofTimeout Duration `json:"proofTimeout,omitempty"`
}

// HAProxySettings are how the machine's HAProxy is used. Commands are argument
// lists; no shell sees them.
type HAProxySettings struct {
	Binary   string   `json:"binary,omitempty"`
	Check    []string `json:"check,omitempty"`    // tests a candidate by itself
	CheckAll []string `json:"checkAll,omitempty"` // tests the whole configuration
	Reload   []string `json:"reload,omitempty"`   // lets the master load it

	Conf        string `json:"conf,omitempty"`        // the owner's file
	Environment string `json:"environment,omitempty"` // of its service, with EXTRAOPTS
	PIDFile     string `json:"pidFile,omitempty"`

	// Socket is where HAProxy says what it runs, and takes changes of nodes. Only
	// the user who delivers may use it.
	Socket string `json:"socket,omitempty"`
	// HardStopAfter is how long connections of earlier configurations may live on.
	HardStopAfter Duration `json:"hardStopAfter,omitempty"`
	// ProofTimeout is how long a reload may take.
	ProofTimeout Duration `json:"proofTimeout,omitempty"`
}

// KeepalivedSettings are how the machine's keepalived is used. Commands are
// argument lists; no shell sees them.
type KeepalivedSettings struct {
	Binary   string   `json:"binary,omitempty"`
	Check    []string `json:"check,omitempty"`    // tests a candidate by itself
	CheckAll []string `json:"checkAll,omitempty"` // tests the whole configuration
	Reload   []string `json:"reload,omitempty"`
	Rules    []string `json:"rules,omitempty"` // loads the packet filter's rules; with the engine lvs

	Conf    string `json:"conf,omitempty"` // the owner's file
	PIDFile string `json:"pidFile,omitempty"`
	// ProofTimeout is how long a reload may take.
	ProofTimeout Duration `json:"proofTimeout,omitempty"`
}

// Duration is a time.Duration that reads 10s in YAML.
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err == nil && parsed <= 0 {
		err = fmt.Errorf("%q is not positive", text)
	}
	*d = Duration(parsed)
	return err
}

// MarshalText prints 10s.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// DefaultSettings are those of a machine on which nothing was chosen. Commands
// go through sudo, unless this process is root already.
func DefaultSettings() Settings {
	var s Settings
	s.setDefaults(os.Geteuid() != 0)
	return s
}

// LoadSettings reads a machine's settings; what they leave out is as in
// DefaultSettings.
func LoadSettings(path string) (Settings, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Settings{}, fmt.Errorf("%s is missing: this machine is not prepared yet; run `external-lb host install` on it as root", path)
	}
	if err != nil {
		return Settings{}, err
	}
	s, err := ParseSettings(data)
	if err != nil {
		return Settings{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// ParseSettings reads settings. Fields that it does not know are errors.
func ParseSettings(data []byte) (Settings, error) { return parseSettings(data, os.Geteuid() != 0) }

func parseSettings(data []byte, sudo bool) (Settings, error) {
	var s Settings
	if err := yaml.UnmarshalStrict(data, &s); err != nil {
		return Settings{}, err
	}
	s.setDefaults(sudo)
	return s, s.validate()
}

func (s *Settings) setDefaults(sudo bool) {
	setDefault(&s.Engine, EngineNginx)
	setDefault(&s.Root, "/var/lib/external-lb")
	if s.VRRP || s.Engine == EngineLVS {
		s.Keepalived.setDefaults(s.vrrpDir(), sudo)
	}
	switch s.Engine {
	case EngineNginx:
		s.Nginx.setDefaults(sudo)
	case EngineHAProxy:
		s.HAProxy.setDefaults(s.Root, s.dir(), sudo)
	}
}

func (n *NginxSettings) setDefaults(sudo bool) {
	setDefault(&n.Binary, "/usr/sbin/nginx")
	setDefault(&n.Conf, "/etc/nginx/nginx.conf")
	setDefault(&n.CheckConf, "/etc/external-lb/nginx-check.conf")
	setDefault(&n.IncludeConf, "/etc/external-lb/nginx-stream.conf")
	setDefault(&n.PIDFile, "/run/nginx.pid")
	setDefault(&n.Proof, "127.0.76.66:776")
	setDefaultDuration(&n.ProofTimeout, 30*time.Second)
	setDefaultCommand(&n.Check, sudo, n.Binary, "-t", "-q", "-c", n.CheckConf)
	setDefaultCommand(&n.Reload, sudo, n.Binary, "-s", "reload")
	setDefaultCommand(&n.Log, sudo, "/usr/bin/tail", "-c", "65536", "/var/log/nginx/error.log")
}

func (h *HAProxySettings) setDefaults(root, dir string, sudo bool) {
	setDefault(&h.Binary, "/usr/sbin/haproxy")
	setDefault(&h.Conf, "/etc/haproxy/haproxy.cfg")
	setDefault(&h.Environment, "/etc/default/haproxy")
	setDefault(&h.PIDFile, "/run/haproxy.pid")
	setDefault(&h.Socket, filepath.Join(root, "haproxy.sock"))
	setDefaultDuration(&h.HardStopAfter, 30*time.Minute)
	setDefaultDuration(&h.ProofTimeout, 30*time.Second)
	whole := func(link string) string { return filepath.Join(dir, link, "haproxy.cfg") }
	setDefaultCommand(&h.Check, false, h.Binary, "-c", "-f", whole(candidateLink))
	setDefaultCommand(&h.CheckAll, sudo, h.Binary, "-c", "-f", h.Conf, "-f", whole(liveLink))
	setDefaultCommand(&h.Reload, sudo, "/usr/bin/pkill", "-USR2", "-F", h.PIDFile)
}

func (k *KeepalivedSettings) setDefaults(dir string, sudo bool) {
	setDefault(&k.Binary, "/usr/sbin/keepalived")
	setDefault(&k.Conf, "/etc/keepalived/keepalived.conf")
	setDefault(&k.PIDFile, "/run/keepalived.pid")
	setDefaultDuration(&k.ProofTimeout, 30*time.Second)
	setDefaultCommand(&k.Check, sudo, k.Binary, "-t", "-f", filepath.Join(dir, candidateLink, "keepalived.conf"))
	setDefaultCommand(&k.CheckAll, sudo, k.Binary, "-t", "-f", k.Conf)
	setDefaultCommand(&k.Reload, sudo, "/usr/bin/pkill", "-HUP", "-F", k.PIDFile)
	setDefaultCommand(&k.Rules, sudo, "/usr/sbin/nft", "-f", filepath.Join(dir, rulesFile))
}

func setDefaultDuration(field *Duration, value time.Duration) {
	if *field == 0 {
		*field = Duration(value)
	}
}

func setDefault(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

func setDefaultCommand(field *[]string, sudo bool, argv ...string) {
	if len(*field) > 0 {
		return
	}
	if sudo {
		argv = append([]string{"sudo", "-n"}, argv...)
	}
	*field = argv
}

func (s *Settings) validate() error {
	paths := map[string]string{"root": s.Root}
	var errs []error
	switch n, h := &s.Nginx, &s.HAProxy; s.Engine {
	case EngineNginx:
		maps.Copy(paths, map[string]string{"nginx.binary": n.Binary, "nginx.conf": n.Conf,
			"nginx.checkConf": n.CheckConf, "nginx.includeConf": n.IncludeConf, "nginx.pidFile": n.PIDFile})
		if filepath.Dir(n.CheckConf) == filepath.Dir(n.Conf) {
			errs = append(errs, errors.New("nginx.checkConf: must be in another directory than nginx.conf, since certificates are found from there"))
		}
		if proof, err := netip.ParseAddrPort(n.Proof); err != nil || proof.Port() == 0 || !proof.Addr().IsLoopback() {
			errs = append(errs, fmt.Errorf("nginx.proof: %q is not address:port of the loopback", n.Proof))
		}
	case EngineHAProxy:
		maps.Copy(paths, map[string]string{"haproxy.binary": h.Binary, "haproxy.conf": h.Conf,
			"haproxy.environment": h.Environment, "haproxy.pidFile": h.PIDFile, "haproxy.socket": h.Socket})
	case EngineLVS:
	default:
		return fmt.Errorf("engine %q: want nginx, haproxy or lvs", s.Engine)
	}
	if k := &s.Keepalived; s.VRRP || s.Engine == EngineLVS {
		maps.Copy(paths, map[string]string{"keepalived.binary": k.Binary, "keepalived.conf": k.Conf, "keepalived.pidFile": k.PIDFile})
	}
	for name, path := range paths {
		if !filepath.IsAbs(path) || filepath.Clean(path) != path || !plainPath(path) {
			errs = append(errs, fmt.Errorf("%s: %q is not a clean absolute path of letters, digits and /._-", name, path))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return compareText(a, b) })
	return errors.Join(errs...)
}

// plainPath reports whether a path can be printed into any configuration file.
func plainPath(path string) bool {
	return !strings.ContainsFunc(path, func(r rune) bool {
		return !strings.ContainsRune("/._-", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

func compareText(a, b error) int { return strings.Compare(a.Error(), b.Error()) }
