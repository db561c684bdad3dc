package lab

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/go-logr/logr"
	"golang.org/x/crypto/ssh"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/controllers"
	"github.com/external-lb/external-lb/test/cluster"
)

// Namespace and SecretName are where the manager finds the hosts' keys.
const (
	Namespace  = "external-lb-system"
	SecretName = "edge-ssh"
)

// Options of a lab.
type Options struct {
	Cluster cluster.Options // with Binary: the external-lb to use
	// Root of the source tree, for config/.
	Root string
	// Bare leaves the hosts as they are: install them, or not.
	Bare bool
	// WithoutOperator leaves the operator out: nothing of config/ is applied, no manager runs, and CreateBalancer is for later.
	WithoutOperator bool
	// TLSSecrets lets the manager read certificates, as config/components/tls does.
	TLSSecrets bool
	// Balancer to create, with every host; empty for none.
	Balancer string
	// Change it before it is created.
	Change func(*v1alpha1.Balancer)
	Log    io.Writer
}

// Lab is a cluster with external-lb on it.
type Lab struct {
	*cluster.Cluster
	Kube    client.Client
	Manager *Manager

	options Options
	key     ssh.PublicKey
	secret  []byte
}

// Start makes a lab, or nothing.
func Start(ctx context.Context, o Options) (*Lab, error) {
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.Cluster.Log == nil {
		o.Cluster.Log = o.Log
	}
	c, err := cluster.Start(ctx, o.Cluster)
	if err != nil {
		return nil, err
	}
	l := &Lab{Cluster: c, options: o}
	if err := l.start(ctx); err != nil {
		return nil, errors.Join(err, l.Stop())
	}
	return l, nil
}

func (l *Lab) start(ctx context.Context) (err error) {
	log.SetLogger(logr.Discard()) // the manager has its own; of the client, only errors matter, which it returns
	if l.Kube, err = client.New(l.RESTConfig(), client.Options{Scheme: controllers.Scheme()}); err != nil {
		return err
	}
	if !l.options.WithoutOperator {
		if err := l.applyConfig(ctx); err != nil {
			return err
		}
	}
	if err := l.makeKey(); err != nil {
		return err
	}
	for _, name := range l.Hosts() {
		if l.options.Bare {
			break
		}
		l.step("host install on " + name)
		if err := l.InstallHost(ctx, name); err != nil {
			return err
		}
	}
	if l.options.WithoutOperator {
		return nil
	}
	if l.options.Balancer != "" {
		if err := l.CreateBalancer(ctx); err != nil {
			return err
		}
	}
	l.step("starting the manager")
	return l.StartManager(ctx)
}

// applyConfig makes the kinds, and the rights of the manager.
func (l *Lab) applyConfig(ctx context.Context) error {
	l.step("applying config/default")
	_, err := l.Kubectl(ctx, "apply", "--server-side", "-k", filepath.Join(l.options.Root, "config", "default"))
	if err == nil && l.options.TLSSecrets {
		err = l.allowTLSSecrets(ctx)
	}
	return err
}

// allowTLSSecrets gives the manager the rights of the component.
func (l *Lab) allowTLSSecrets(ctx context.Context) error {
	component := filepath.Join(l.options.Root, "config", "components", "tls")
	_, err := l.Kubectl(ctx, "apply", "--server-side", "-f", filepath.Join(component, "role.yaml"), "-f", filepath.Join(component, "role_binding.yaml"))
	return err
}

func (l *Lab) step(what string) { fmt.Fprintf(l.options.Log, "         %s\n", what) }

// Stop ends the manager and the cluster.
func (l *Lab) Stop() error {
	var err error
	if l.Manager != nil {
		err = l.Manager.Stop()
	}
	return errors.Join(err, l.Cluster.Stop())
}

// Kubectl runs kubectl and returns its stdout.
func (l *Lab) Kubectl(ctx context.Context, args ...string) (string, error) {
	return l.KubectlInput(ctx, "", args...)
}

// KubectlInput runs kubectl with an input.
func (l *Lab) KubectlInput(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, l.Bin("kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+l.Kubeconfig())
	cmd.Stdin = strings.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), err
}

// makeKey makes the one key with which the manager logs in to the hosts.
func (l *Lab) makeKey() error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(private, "external-lb")
	if err != nil {
		return err
	}
	l.secret = pem.EncodeToMemory(block)
	l.key, err = ssh.NewPublicKey(public)
	return err
}

// AuthorizedKey is the manager's public key.
func (l *Lab) AuthorizedKey() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(l.key)))
}

// InstallHost prepares a host as its administrator would.
func (l *Lab) InstallHost(ctx context.Context, name string) error {
	h, err := l.Host(name)
	if err != nil {
		return err
	}
	const keyFile = "/root/external-lb.pub"
	if err := h.WriteFile(ctx, keyFile, []byte(l.AuthorizedKey()+"\n")); err != nil {
		return err
	}
	install := []string{"external-lb", "host", "install", "--engine", string(l.engine()), "--authorized-key", keyFile}
	vrrp, datagrams := l.options.Cluster.Addresses == "vrrp", l.options.Cluster.Datagrams
	if datagrams {
		install = append(install, "--datagrams", "lvs")
	}
	if vrrp {
		install = append(install, "--vrrp")
	}
	if _, err := h.Exec(ctx, install...); err != nil {
		return err
	}
	if l.engine() == v1alpha1.EngineHAProxy { // which has had nothing to listen to before
		if err := h.StartEngine(ctx); err != nil {
			return err
		}
	}
	if vrrp || datagrams || l.engine() == v1alpha1.EngineLVS {
		if err := h.StartKeepalived(ctx); err != nil {
			return err
		}
	}
	return h.StartAgent(ctx)
}

// engine of every host.
func (l *Lab) engine() v1alpha1.Engine {
	return cmp.Or(v1alpha1.Engine(l.options.Cluster.Engine), v1alpha1.EngineNginx)
}

// CreateBalancer makes the Secret and the Balancer with every host.
func (l *Lab) CreateBalancer(ctx context.Context) error {
	known := ""
	b := &v1alpha1.Balancer{
		ObjectMeta: metav1.ObjectMeta{Name: l.options.Balancer},
		Spec:       v1alpha1.BalancerSpec{Engine: l.engine()},
	}
	if l.options.Cluster.Datagrams {
		b.Spec.Datagrams = v1alpha1.DatagramsLVS
	}
	for _, name := range l.Hosts() {
		h, err := l.Host(name)
		if err != nil {
			return err
		}
		lines, err := h.KnownHosts(ctx)
		if err != nil {
			return err
		}
		known += lines
		b.Spec.Hosts = append(b.Spec.Hosts, v1alpha1.Host{
			Name: name, Address: h.Addr().String(),
			SecretRef: &corev1.LocalObjectReference{Name: SecretName},
		})
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: SecretName},
		Type:       corev1.SecretTypeSSHAuth,
		Data:       map[string][]byte{corev1.SSHAuthPrivateKey: l.secret, "known_hosts": []byte(known)},
	}
	if err := l.Kube.Create(ctx, secret); err != nil {
		return err
	}
	if l.options.Change != nil {
		l.options.Change(b)
	}
	return l.Kube.Create(ctx, b)
}

// Create makes objects that may be there already.
func (l *Lab) Create(ctx context.Context, objects ...client.Object) error {
	for _, o := range objects {
		if err := l.Kube.Create(ctx, o); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	return nil
}
