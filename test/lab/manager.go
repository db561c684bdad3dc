package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"

	"github.com/external-lb/external-lb/test/freeport"
	"github.com/external-lb/external-lb/test/wait"
)

// serviceAccount of the manager in config/.
const serviceAccount = "external-lb"

// Manager is a running `external-lb manager`, or what runs in place of it.
type Manager struct {
	Metrics string // URL
	LogFile string

	cmd    *exec.Cmd
	exited chan error
}

// StartManager starts a manager with the rights of its ServiceAccount, and perhaps
// more flags, and waits until it is ready.
func (l *Lab) StartManager(ctx context.Context, flags ...string) error {
	kubeconfig, err := l.KubeconfigOf(ctx, Namespace, serviceAccount)
	if err != nil {
		return err
	}
	health, err := freeport.ForProcess("127.0.0.1")
	if err != nil {
		return err
	}
	metrics, err := freeport.ForProcess("127.0.0.1")
	if err != nil {
		return err
	}
	flags = append([]string{"manager", "--kubeconfig", kubeconfig, "--namespace", Namespace,
		"--health-address", health.String(), "--metrics-address", metrics.String(), fmt.Sprintf("--tls-secrets=%t", l.options.TLSSecrets)}, flags...)
	l.Manager, err = l.Run(ctx, exec.Command(l.options.Cluster.Binary, flags...), "manager", "http://"+health.String()+"/readyz")
	if l.Manager != nil {
		l.Manager.Metrics = "http://" + metrics.String() + "/metrics"
	}
	return err
}

// Run starts a controller with its output in a log of its name, and waits until a URL says that it is ready. If there
// is one it is returned, also where it is not ready.
func (l *Lab) Run(ctx context.Context, cmd *exec.Cmd, name, ready string) (*Manager, error) {
	m := &Manager{LogFile: filepath.Join(filepath.Dir(l.Kubeconfig()), "logs", name+".log"), cmd: cmd}
	log, err := os.OpenFile(m.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	m.exited = make(chan error, 1)
	go func() { m.exited <- cmd.Wait() }()
	return m, m.waitReady(ctx, ready)
}

func (m *Manager) waitReady(ctx context.Context, url string) error {
	return wait.Until(ctx, func(ctx context.Context) error {
		select {
		case err := <-m.exited:
			m.exited <- err
			return wait.GiveUp(fmt.Errorf("the manager ended: %w\n%s", cmp.Or(err, errors.New("exit status 0")), m.Tail()))
		default:
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", url, response.Status)
		}
		return nil
	})
}

// Tail is the end of its log.
func (m *Manager) Tail() string {
	log, err := os.ReadFile(m.LogFile)
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-8000):])
}

// PID of the process.
func (m *Manager) PID() int { return m.cmd.Process.Pid }

// Stop ends the manager as Kubernetes would.
func (m *Manager) Stop() error { return m.end(os.Interrupt) }

// Kill ends the manager at once.
func (m *Manager) Kill() error { return m.end(os.Kill) }

func (m *Manager) end(sig os.Signal) error {
	if err := m.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	err := <-m.exited
	m.exited <- err
	if sig == os.Kill {
		return nil
	}
	return err
}

// Detach lets the manager outlive this process.
func (m *Manager) Detach() error { return m.cmd.Process.Release() }

// KubeconfigOf makes a kubeconfig with the rights of a ServiceAccount: those of the manager are what config/rbac gives.
func (l *Lab) KubeconfigOf(ctx context.Context, namespace, name string) (string, error) {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	token := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](24 * 3600)}}
	if err := l.Kube.SubResource("token").Create(ctx, account, token); err != nil {
		return "", fmt.Errorf("a token for %s: %w", name, err)
	}
	config := l.RESTConfig()
	ca := config.CAData
	if ca == nil {
		var err error
		if ca, err = os.ReadFile(config.CAFile); err != nil {
			return "", err
		}
	}
	kc := clientcmdapi.NewConfig()
	kc.Clusters["test"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: ca}
	kc.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	kc.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: name, Namespace: namespace}
	kc.CurrentContext = "test"
	path := filepath.Join(filepath.Dir(l.Kubeconfig()), "pki", namespace+"-"+name+".kubeconfig")
	return path, clientcmd.WriteToFile(*kc, path)
}
