package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// kubelet is as much of a scheduler and of every node's kubelet as the pods of a Deployment need.
type kubelet struct {
	*Cluster
	programs map[string]string
	pods     map[types.UID]*podRun
}

// podRun is a pod that runs here.
type podRun struct {
	namespace, name string
	began           time.Time // of its program
	restarts        int32
	reported        string // what its status says
	told            bool   // to end
}

// RunKubelet runs the pods that controllers make, until ctx ends: those of whose image, without tag and digest,
// programs has the program. It chooses a node without looking at what the pod says of nodes. It runs the first container's
// program in the pod's network, as the user that the pod says, on a file system that cannot be written, with a token
// of its ServiceAccount, and starts it again when it has ended. Ready is what the readiness probe says, by HTTP.
// What fails is in logs/kubelet.log, and what programs write in logs/pods.log. Pods outlive it, and the next one goes on with them.
// It returns ErrNotRunning when the cluster has ended.
func (c *Cluster) RunKubelet(ctx context.Context, programs map[string]string) error {
	log, err := os.OpenFile(c.log("kubelet"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	go c.endWith(ctx, end)
	k := &kubelet{c, programs, map[types.UID]*podRun{}}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for last := ""; ; {
		if err := k.round(ctx); err != nil && ctx.Err() == nil && err.Error() != last {
			last = err.Error()
			fmt.Fprintln(log, last)
		}
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), ErrNotRunning) {
				return ErrNotRunning
			}
			return nil
		case <-ticker.C:
		}
	}
}

// endWith the cluster, which may leave a request without an answer.
func (c *Cluster) endWith(ctx context.Context, end context.CancelCauseFunc) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for c.now().Init.alive() {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
	end(ErrNotRunning)
}

// round does for each pod what is next.
func (k *kubelet) round(ctx context.Context) error {
	pods, err := k.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var errs []error
	there := map[types.UID]bool{}
	for _, p := range pods.Items {
		there[p.UID] = true
		if k.program(&p) != "" {
			errs = append(errs, k.sync(ctx, &p))
		}
	}
	for uid, r := range k.pods {
		if !there[uid] { // deleted without waiting for us
			errs = append(errs, k.remove(ctx, uid, r))
		}
	}
	return errors.Join(errs...)
}

func (k *kubelet) program(p *corev1.Pod) string {
	image, _, _ := strings.Cut(p.Spec.Containers[0].Image, "@")
	if colon := strings.LastIndex(image, ":"); colon > strings.LastIndex(image, "/") {
		image = image[:colon]
	}
	return k.programs[image]
}

func (k *kubelet) sync(ctx context.Context, p *corev1.Pod) error {
	key := p.Namespace + "/" + p.Name
	r := k.pods[p.UID]
	if _, known := k.now().Pods[key]; r == nil && known { // a kubelet before us has made it
		r = &podRun{namespace: p.Namespace, name: p.Name, began: time.Now()}
		k.pods[p.UID] = r
	}
	switch {
	case p.DeletionTimestamp != nil:
		return k.terminate(ctx, p, r)
	case r == nil:
		return k.admit(ctx, p)
	case !k.now().Pods[key].Echo.alive() && time.Since(r.began) > time.Second:
		if r.began.IsZero() {
			r.restarts = -1
		}
		r.began, r.restarts = time.Now(), r.restarts+1
		if err := k.start(ctx, p); err != nil {
			return fmt.Errorf("pod %s: %w", key, err)
		}
	}
	return k.report(ctx, p, r)
}

// admit finds a node for a new pod, and makes its network there.
func (k *kubelet) admit(ctx context.Context, p *corev1.Pod) error {
	key := p.Namespace + "/" + p.Name
	taken, err := k.reservePod(key, p.Spec.NodeName)
	if err != nil {
		return err
	}
	k.pods[p.UID] = &podRun{namespace: p.Namespace, name: p.Name}
	if err := k.addPodBox(ctx, key, taken); err != nil {
		return fmt.Errorf("pod %s: %w", key, err)
	}
	if p.Spec.NodeName != "" {
		return nil
	}
	return k.client.CoreV1().Pods(p.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, UID: p.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: taken.Node},
	}, metav1.CreateOptions{})
}

// asAContainer runs $3 with what follows its name with a file system that only it sees: $1 is the directory of its account,
// $2 its user, $4 its name. The program is shown in it, since the user may not read the directory that it is in.
const asAContainer = `set -e
account=$1 user=$2 program=$3; hostname "$4"; shift 4
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/secrets/kubernetes.io/serviceaccount
cp "$account"/* /run/secrets/kubernetes.io/serviceaccount/
chmod 644 /run/secrets/kubernetes.io/serviceaccount/*
touch /run/program
mount --bind "$program" /run/program
mount -o remount,ro /run
mount -o remount,bind,ro /
exec setpriv --reuid "$user" --regid "$user" --clear-groups --bounding-set=-all --no-new-privs /run/program "$@"
`

// start starts the program of a pod.
func (k *kubelet) start(ctx context.Context, p *corev1.Pod) error {
	account, err := k.account(ctx, p)
	if err != nil {
		return err
	}
	container, user := p.Spec.Containers[0], int64(0)
	if p.Spec.SecurityContext != nil {
		user = ptr.Deref(p.Spec.SecurityContext.RunAsUser, user)
	}
	argv := []string{"HOME=/", "KUBERNETES_SERVICE_HOST=10.96.0.1", "KUBERNETES_SERVICE_PORT=443"}
	for _, e := range container.Env {
		if e.ValueFrom != nil {
			return fmt.Errorf("%s comes from elsewhere: not known here", e.Name)
		}
		argv = append(argv, e.Name+"="+e.Value)
	}
	argv = append(argv, "unshare", "--uts", "--mount", "--propagation", "private", "sh", "-c", asAContainer, "sh",
		account, fmt.Sprint(user), k.program(p), p.Name)
	key := p.Namespace + "/" + p.Name
	cmd := k.netns(podNetns(key)).command(context.WithoutCancel(ctx), append(append(argv, container.Command...), container.Args...)...)
	started, err := cmd.daemon(k.log("pods"))
	if err != nil {
		return err
	}
	return k.update(func(s *state) { p := s.Pods[key]; p.Echo = started; s.Pods[key] = p })
}

// account writes what a pod has of its ServiceAccount, and says where.
func (k *kubelet) account(ctx context.Context, p *corev1.Pod) (string, error) {
	name := p.Spec.ServiceAccountName
	if name == "" {
		name = "default"
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](24 * 3600)}}
	token, err := k.client.CoreV1().ServiceAccounts(p.Namespace).CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	ca, err := os.ReadFile(k.pki("ca.crt"))
	if err != nil {
		return "", err
	}
	dir := k.pki(podNetns(p.Namespace + "/" + p.Name))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for file, text := range map[string][]byte{"token": []byte(token.Status.Token), "ca.crt": ca, "namespace": []byte(p.Namespace)} {
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// report writes the status of a pod where it has changed.
func (k *kubelet) report(ctx context.Context, p *corev1.Pod, r *podRun) error {
	key := p.Namespace + "/" + p.Name
	known := k.now().Pods[key]
	ready := known.Echo.alive() && k.ready(ctx, p, known.Node)
	says := fmt.Sprint(ready, r.restarts)
	if says == r.reported {
		return nil
	}
	container := p.Spec.Containers[0]
	status := p.Status.DeepCopy()
	status.Phase, status.StartTime = corev1.PodRunning, &p.CreationTimestamp
	status.HostIP, status.PodIPs = k.Addrs(known.Node)[0].String(), nil
	for _, a := range k.Addrs(key) {
		status.PodIPs = append(status.PodIPs, corev1.PodIP{IP: a.String()})
	}
	status.PodIP = status.PodIPs[0].IP
	status.ContainerStatuses = []corev1.ContainerStatus{{Name: container.Name, Image: container.Image, Ready: ready, RestartCount: r.restarts,
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(r.began)}}}}
	setPodReady(status, ready)
	p.Status = *status
	if _, err := k.client.CoreV1().Pods(p.Namespace).UpdateStatus(ctx, p, metav1.UpdateOptions{}); err != nil {
		return err
	}
	r.reported = says
	return nil
}

// ready asks the readiness probe, from the pod's node.
func (k *kubelet) ready(ctx context.Context, p *corev1.Pod, node string) bool {
	container := p.Spec.Containers[0]
	if container.ReadinessProbe == nil {
		return true
	}
	get := container.ReadinessProbe.HTTPGet
	if get == nil {
		return false
	}
	port := get.Port.IntVal
	for _, named := range container.Ports {
		if named.Name == get.Port.StrVal && named.Name != "" {
			port = named.ContainerPort
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	at := netip.AddrPortFrom(k.Addrs(p.Namespace + "/" + p.Name)[0], uint16(port))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at.String()+get.Path, nil)
	if err != nil {
		return false
	}
	client := k.HTTPClientFrom(node)
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode < http.StatusBadRequest
}

// terminate tells the program to end, and takes the pod away when it has, or its time is over.
func (k *kubelet) terminate(ctx context.Context, p *corev1.Pod, r *podRun) error {
	if r == nil {
		return k.client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
	}
	process := k.now().Pods[p.Namespace+"/"+p.Name].Echo
	if process.alive() && time.Now().Before(p.DeletionTimestamp.Time) {
		if r.told {
			return nil
		}
		r.told = true
		return unix.Kill(process.PID, unix.SIGTERM)
	}
	return k.remove(ctx, p.UID, r)
}

func (k *kubelet) remove(ctx context.Context, uid types.UID, r *podRun) error {
	if err := k.RemovePod(ctx, r.namespace, r.name); err != nil {
		return err
	}
	delete(k.pods, uid)
	return os.RemoveAll(k.pki(podNetns(r.namespace + "/" + r.name)))
}
