package octavia

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/conditions"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/wait"
)

// balancer makes a Balancer of the provider, and its pool.
func (s *scene) balancer(t *testing.T, p *Provider) {
	t.Helper()
	kubectl := func(stdin string, args ...string) {
		t.Helper()
		if out, err := s.KubectlInput(t.Context(), stdin, args...); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	kubectl("", "-n", lab.Namespace, "create", "secret", "generic", "cloud", "--from-file=token="+p.Token, "--from-file=ca.crt="+p.CA)
	text, err := os.ReadFile("../../docs/howto/octavia.md")
	if err != nil {
		t.Fatal(err)
	}
	_, manifest, _ := strings.Cut(string(text), "```yaml\n")
	manifest, _, _ = strings.Cut(manifest, "```")
	kubectl(strings.Replace(manifest, "https://192.0.2.5:8480", p.URL, 1), "apply", "-f", "-")
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		for _, args := range [][]string{{"delete", "balancer,addresspool", "octavia"}, {"-n", lab.Namespace, "delete", "secret", "cloud"}} {
			if _, err := s.Kubectl(ctx, args...); err != nil {
				t.Error(err)
			}
		}
	})
}

// The page for users of OpenStack, as it is written. The provider knows the network of addresses, and leaves it to
// Octavia which of its subnets they are of.
func TestServices(t *testing.T) {
	t.Parallel()
	env.balancer(t, env.startProvider(t, Place{Project: Project, Network: Network}))
	t.Run("get a load balancer", getALoadBalancer)
	t.Run("of datagrams", ofDatagrams)
}

// A Service gets an address from Octavia, at which its pods answer.
func getALoadBalancer(t *testing.T) {
	for _, node := range env.Nodes() {
		pod := cluster.PodSpec{Name: "web-" + node, Node: node, Labels: map[string]string{"app": "web"}}
		if _, err := env.AddPod(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
	}
	svc := builder.Service("default", "web").App("web").Port(80).Class("external-lb.dev/octavia").With(func(s *corev1.Service) {
		s.Spec.Ports[0].TargetPort = intstr.FromInt32(8080)
	}).Manifest()
	if err := env.Kube.Create(t.Context(), svc); err != nil {
		t.Fatal(err)
	}
	address := env.published(t, svc)
	env.reaches(t, address, "web-")
	env.isMended(t, svc)
	if err := env.RemoveNode(t.Context(), env.Nodes()[1]); err != nil {
		t.Fatal(err)
	}
	env.reaches(t, address, "web-"+env.Nodes()[0])
	env.spoil(t, svc) // it goes in ERROR, too
	if err := env.Kube.Delete(t.Context(), svc); err != nil {
		t.Fatal(err)
	}
	wait.For(t, func(ctx context.Context) error {
		switch err := env.Kube.Get(ctx, client.ObjectKeyFromObject(svc), svc); {
		case client.IgnoreNotFound(err) != nil:
			return err
		case err == nil:
			return errors.New("the Service is still there")
		}
		return nil
	})
	if got, err := env.ask(address); err == nil && strings.Contains(got, `"pod":"web-`) { // another test may have the address now
		t.Errorf("the Service is gone, and %q answers", got)
	}
}

// isMended wants to hear of a load balancer in ERROR on its Service, and of nothing when somebody has mended it in Octavia.
func (s *scene) isMended(t *testing.T, svc *corev1.Service) {
	t.Helper()
	lb := s.spoil(t, svc)
	s.says(t, svc, metav1.ConditionFalse, "the load balancer is ERROR in Octavia: see its amphorae, then fail it over")
	if got, err := s.ask(lb.VipAddress); err != nil {
		t.Errorf("it still answered in ERROR: %q, %v", got, err)
	}
	if err := loadbalancers.Failover(t.Context(), s.cloud.API(Project), lb.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	s.says(t, svc, metav1.ConditionTrue, conditions.ProgrammedMessage)
	s.reaches(t, lb.VipAddress, "web-")
}

// spoil has the load balancer of a Service in ERROR, as Octavia does where its machines fail. What Octavia is at work
// on, it would mark ACTIVE afterwards.
func (s *scene) spoil(t *testing.T, svc *corev1.Service) *loadbalancers.LoadBalancer {
	t.Helper()
	lb, err := s.cloud.of(t.Context(), string(svc.UID))
	if err != nil {
		t.Fatal(err)
	}
	const spoil = `mariadb --socket=/srv/my/s octavia -Nse "update load_balancer set provisioning_status = 'ERROR'
where id = '$1' and provisioning_status = 'ACTIVE'; select row_count()"`
	wait.For(t, func(ctx context.Context) error {
		changed, err := s.cloud.inside(ctx, spoil, lb.ID)
		if err == nil && strings.TrimSpace(changed) != "1" {
			err = fmt.Errorf("of %q load balancers that are ACTIVE", changed)
		}
		return err
	})
	return lb
}

// says waits until a Service says whether it is programmed, and why not.
func (s *scene) says(t *testing.T, svc *corev1.Service, want metav1.ConditionStatus, message string) {
	t.Helper()
	wait.For(t, func(ctx context.Context) error {
		if err := s.Kube.Get(ctx, client.ObjectKeyFromObject(svc), svc); err != nil {
			return err
		}
		c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionServiceProgrammed)
		if c == nil || c.Status != want || !strings.Contains(c.Message, message) {
			return fmt.Errorf("it says %v", c)
		}
		return nil
	})
}

// Datagrams and connections come to one port of an address, from those networks that may.
func ofDatagrams(t *testing.T) {
	pod := cluster.PodSpec{Name: "dns", Node: env.Nodes()[0], Labels: map[string]string{"app": "dns"}}
	if _, err := env.AddPod(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	svc := builder.Service("default", "dns").App("dns").Class("external-lb.dev/octavia").Port(53).PortOf(corev1.ProtocolUDP, 53, 0).With(func(s *corev1.Service) {
		s.Spec.Ports[0].TargetPort, s.Spec.Ports[1].TargetPort = intstr.FromInt32(8080), intstr.FromInt32(9000)
		s.Spec.Ports[1].Name = "datagrams"
	}).Manifest()
	if err := env.Kube.Create(t.Context(), svc); err != nil {
		t.Fatal(err)
	}
	address := env.published(t, svc)
	if lb, err := env.cloud.of(t.Context(), string(svc.UID)); err != nil {
		t.Error(err)
	} else if lb.VipNetworkID != Network {
		t.Errorf("its network is %q", lb.VipNetworkID)
	}
	answers := func(want bool) {
		t.Helper()
		wait.For(t, func(ctx context.Context) error {
			got, err := env.datagram(ctx, address)
			switch {
			case want && err == nil && !strings.Contains(got, "dns"):
				return fmt.Errorf("%q answers", got)
			case want:
				return err
			case err == nil:
				return fmt.Errorf("%q still answers", got)
			}
			return nil
		})
	}
	answers(true)
	allow := func(ranges ...string) {
		t.Helper()
		patch := client.MergeFrom(svc.DeepCopy())
		svc.Spec.LoadBalancerSourceRanges = ranges
		if err := env.Kube.Patch(t.Context(), svc, patch); err != nil {
			t.Fatal(err)
		}
	}
	allow("192.0.2.0/24")
	answers(false)
	allow()
	answers(true)
	if err := env.Kube.Delete(t.Context(), svc); err != nil {
		t.Fatal(err)
	}
	answers(false)
}

// datagram asks port 53 of an address.
func (s *scene) datagram(ctx context.Context, address string) (string, error) {
	conn, err := s.DialFrom(ctx, "client", "udp", net.JoinHostPort(address, "53"))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("x")); err != nil {
		return "", err
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Second))
	answer := make([]byte, 1024)
	n, err := conn.Read(answer)
	return string(answer[:n]), err
}

func (s *scene) published(t *testing.T, svc *corev1.Service) string {
	t.Helper()
	wait.For(t, func(ctx context.Context) error {
		if err := s.Kube.Get(ctx, client.ObjectKeyFromObject(svc), svc); err != nil {
			return err
		}
		if len(svc.Status.LoadBalancer.Ingress) == 0 {
			out, _ := s.Kubectl(ctx, "get", "events,balancers,pools,services", "-o", "wide")
			return fmt.Errorf("it has no address: %s", out)
		}
		return nil
	})
	return svc.Status.LoadBalancer.Ingress[0].IP
}

func (s *scene) reaches(t *testing.T, address, pod string) {
	t.Helper()
	wait.For(t, func(context.Context) error {
		got, err := s.ask(address)
		if err == nil && !strings.Contains(got, `"pod":"`+pod) {
			err = fmt.Errorf("%q answers", got)
		}
		return err
	})
}

func (s *scene) ask(address string) (string, error) {
	from := s.HTTPClientFrom("client")
	defer from.CloseIdleConnections()
	response, err := from.Get("http://" + address + "/")
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}
