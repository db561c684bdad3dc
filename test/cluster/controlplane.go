package cluster

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/external-lb/external-lb/test/wait"
)

const controlPlane = "control-plane"

// APIServer is the URL of the API server, reachable from this machine's root namespace too.
func (c *Cluster) APIServer() string {
	return "https://" + netip.AddrPortFrom(c.now().Plan.addr4(controlPlaneAt), 6443).String()
}

// Kubeconfig is the path of a kubeconfig with every right.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.dir, "kubeconfig") }

// Bin is the path of a program of the cluster: kubectl, etcd, …
func (c *Cluster) Bin(program string) string { return filepath.Join(c.now().Bin, program) }

// RESTConfig is a copy that the caller may change. It has every right and no rate limit.
func (c *Cluster) RESTConfig() *rest.Config { return rest.CopyConfig(c.config) }

// Client has every right and no rate limit.
func (c *Cluster) Client() kubernetes.Interface { return c.client }

func (c *Cluster) pki(name string) string { return filepath.Join(c.dir, "pki", name) }

func (c *Cluster) startControlPlane(ctx context.Context) error {
	s := c.now()
	addrs := s.Plan.addrs(controlPlaneAt)
	if err := writeCerts(c.pki(""), addrs); err != nil {
		return err
	}
	if err := c.writeKubeconfig(); err != nil {
		return err
	}
	if err := c.connect(); err != nil {
		return err
	}
	if err := c.update(func(s *state) { s.Boxes[controlPlane] = box{Kind: controlPlane, At: controlPlaneAt} }); err != nil {
		return err
	}
	if err := c.addBox(ctx, controlPlane, controlPlaneAt); err != nil {
		return err
	}
	if err := c.startEtcd(); err != nil {
		return err
	}
	return c.startAPIServer()
}

func (c *Cluster) etcdData() string { return filepath.Join(c.dir, "etcd") }

func (c *Cluster) startEtcd() error {
	return c.daemon("etcd", controlPlane, c.Bin("etcd"),
		"--name=etcd", "--data-dir="+c.etcdData(),
		"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=etcd=http://127.0.0.1:2380", "--unsafe-no-fsync", "--log-level=warn")
}

func (c *Cluster) startAPIServer() error {
	o, p := c.now().Options, c.now().Plan
	argv := append([]string{c.Bin("kube-apiserver"),
		"--etcd-servers=http://127.0.0.1:2379",
		"--bind-address=0.0.0.0", "--advertise-address=" + p.addr4(controlPlaneAt).String(), "--secure-port=6443",
		"--service-cluster-ip-range=" + p.serviceCIDR(), "--service-node-port-range=" + o.NodePorts,
		"--client-ca-file=" + c.pki("ca.crt"),
		"--tls-cert-file=" + c.pki("apiserver.crt"), "--tls-private-key-file=" + c.pki("apiserver.key"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.pki("sa.crt"), "--service-account-signing-key-file=" + c.pki("sa.key"),
		"--authorization-mode=RBAC", "--allow-privileged", "--profiling=false",
		// Pods have no service account and nodes no kubelet that would take the taint of a new node away.
		"--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
		"--max-requests-inflight=4000", "--max-mutating-requests-inflight=2000",
	}, o.APIServerArgs...)
	return c.daemon("kube-apiserver", controlPlane, argv...)
}

func (c *Cluster) startControllerManager(context.Context) error {
	return c.daemon("kube-controller-manager", controlPlane, c.Bin("kube-controller-manager"),
		"--kubeconfig="+c.Kubeconfig(), "--leader-elect=false",
		"--service-account-private-key-file="+c.pki("sa.key"), "--root-ca-file="+c.pki("ca.crt"),
		// No kubelet sends heartbeats, and nodes bring their pod ranges.
		"--controllers=*,-node-lifecycle-controller,-node-ipam-controller",
		"--kube-api-qps=1000", "--kube-api-burst=2000",
		"--concurrent-service-endpoint-syncs=10", "--concurrent-endpoint-syncs=10")
}

// daemon starts a program in a box, with its output in logs/NAME.log, and remembers its process.
func (c *Cluster) daemon(name, where string, argv ...string) error {
	p, err := c.place(where)
	if err != nil {
		return err
	}
	argv = append([]string{"/usr/bin/env", "GOGC=400"}, argv...) // memory is less dear here than a processor
	started, err := p.command(context.Background(), argv...).daemon(c.log(name))
	if err != nil {
		return err
	}
	return c.update(func(s *state) { s.Daemons[name] = started })
}

func (c *Cluster) stopDaemon(name string, sig unix.Signal) error {
	if err := c.now().Daemons[name].kill(sig); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return c.update(func(s *state) { delete(s.Daemons, name) })
}

// StopAPIServer ends the API server at once, as a crash would.
func (c *Cluster) StopAPIServer() error { return c.stopDaemon("kube-apiserver", unix.SIGKILL) }

// StartAPIServer starts it again and waits until it is ready.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	if err := c.startAPIServer(); err != nil {
		return err
	}
	return c.waitReady(ctx)
}

func (c *Cluster) waitReady(ctx context.Context) error {
	return c.await(ctx, "kube-apiserver", "the API server to be ready", func() error {
		return c.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

// await tries until there is no error, or the daemon that it depends on has ended: then it
// says what that wrote last.
func (c *Cluster) await(ctx context.Context, daemon, what string, try func() error) error {
	err := wait.Until(ctx, func(context.Context) error {
		err := try()
		if p, ok := c.now().Daemons[daemon]; err != nil && ok && !p.alive() {
			return wait.GiveUp(fmt.Errorf("%w: %s ended:\n%s", err, daemon, c.tail(daemon)))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("waited for %s: %w", what, err)
	}
	return nil
}

func (c *Cluster) tail(daemon string) string {
	data, err := os.ReadFile(c.log(daemon))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

func (c *Cluster) writeKubeconfig() error {
	read := func(name string) []byte {
		data, err := os.ReadFile(c.pki(name))
		if err != nil {
			panic(err) // written a moment ago
		}
		return data
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["test"] = &clientcmdapi.Cluster{Server: c.APIServer(), CertificateAuthorityData: read("ca.crt")}
	config.AuthInfos["admin"] = &clientcmdapi.AuthInfo{ClientCertificateData: read("admin.crt"), ClientKeyData: read("admin.key")}
	config.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "admin"}
	config.CurrentContext = "test"
	return clientcmd.WriteToFile(*config, c.Kubeconfig())
}

func (c *Cluster) connect() error {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return err
	}
	config.QPS = -1
	if c.client, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	c.config = config
	return nil
}

// answers reports whether something accepts connections.
func answers(ctx context.Context, addr netip.Addr, port uint16) error {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", netip.AddrPortFrom(addr, port).String())
	if err != nil {
		return err
	}
	return conn.Close()
}
