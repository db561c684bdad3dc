package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/wait"
)

// row is what `external-lb top` says of a port of a Service, by column.
func (s *scene) row(ctx context.Context, service, port string) (map[string]string, error) {
	stdout, stderr, code := command(ctx, binary, "top", "--once", "--metrics", env.Manager.Metrics)
	if code != 0 {
		return nil, fmt.Errorf("top: exit code %d\n%s", code, stderr)
	}
	head, rest, _ := strings.Cut(stdout, "\n")
	names := strings.Fields(strings.Replace(head, "NODES UP", "UP", 1))
	for line := range strings.Lines(rest) {
		fields := strings.Fields(line)
		if len(fields) != len(names) || fields[0] != s.namespace+"/"+service {
			continue
		}
		row := map[string]string{}
		for i, name := range names {
			row[name] = fields[i]
		}
		if row["PORT"] == port {
			return row, nil
		}
	}
	return nil, fmt.Errorf("top says nothing of %s/%s, port %s:\n%s", s.namespace, service, port, stdout)
}

// Connections that are open are seen on every engine; what else, docs/howto/traffic.md says.
// It runs alone: what is open in HAProxy's old workers is not counted after a reload.
func TestTop_ShowsTraffic(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web", withPort("tcp", corev1.ProtocolTCP, 80, 9000))
	address := s.published(svc)[0]
	const held = 5
	for range held {
		s.connectTo("web-1", address, 80)
	}
	wait.For(t, func(ctx context.Context) error {
		for range 3 {
			c, err := s.connect(address, 80)
			if err != nil {
				return err
			}
			if _, err := c.ask(); err != nil {
				return err
			}
			must(t, c.Close())
		}
		row, err := s.row(ctx, "web", "80/TCP")
		if err != nil {
			return err
		}
		want := map[string]string{"OPEN": strconv.Itoa(held)}
		switch engine.name {
		case v1alpha1.EngineHAProxy:
			want["UP"], want["FAILED/S"], want["REFUSED/S"] = "3/3", "0", "0"
			if row["NEW/S"] == "0" || row["NEW/S"] == "-" || strings.HasPrefix(row["IN/S"], "0") || strings.HasPrefix(row["OUT/S"], "0") {
				return fmt.Errorf("traffic that is not seen: %v", row)
			}
		case v1alpha1.EngineLVS:
			want["UP"], want["NEW/S"] = "3/3", "-"
		default:
			want["UP"], want["NEW/S"], want["FAILED/S"] = "-", "-", "-"
		}
		for column, value := range want {
			if row[column] != value {
				return fmt.Errorf("%s is %q, want %q: %v", column, row[column], value, row)
			}
		}
		return nil
	})
}

// Every host says that no node is up where nothing answers at the nodePort by which the
// nodes are judged, and takes it back once a pod does.
func TestHealth_ComesBackOnTheService(t *testing.T) {
	t.Parallel()
	if engine.name == v1alpha1.EngineNginx {
		t.Skip("not applicable: nginx has no checks, and tells nobody of nodes that it leaves out for a moment")
	}
	s := besideScene(t)
	policy := builder.UpstreamPolicy(s.namespace, "checked").For("web").Set(func(u *v1alpha1.UpstreamSettings) {
		u.HealthCheck = &v1alpha1.HealthCheck{Type: v1alpha1.HealthCheckTCP}
	}).Manifest()
	s.make(policy)
	svc := s.service("web", withPort("tcp", corev1.ProtocolTCP, 80, 9000))
	address := s.published(svc)[0]
	says := func(reason string, status metav1.ConditionStatus, words string) {
		t.Helper()
		s.until(svc, "BackendsHealthy "+reason, func(svc *corev1.Service) bool {
			c := condition(svc, v1alpha1.ConditionBackendsHealthy)
			return c.Reason == reason && c.Status == status && strings.Contains(c.Message, words)
		})
		stdout, stderr, code := command(t.Context(), binary, "status", "--health")
		if code != 0 || !strings.Contains(stdout, "nodes: "+reason+": ") {
			t.Errorf("status --health: exit code %d\n%s%s", code, stdout, stderr)
		}
	}
	says(v1alpha1.ReasonNoNodeUp, metav1.ConditionFalse, "no node is up for "+address+":80/TCP; lb1: down: node1 since 20")
	s.event(svc, v1alpha1.EventUnavailable, "every host says that its nodes are down")
	s.pod("web", "web-1", "node1")
	s.connectTo("web-1", address, 80)
	says(v1alpha1.ReasonAllNodesUp, metav1.ConditionTrue, "")
}
