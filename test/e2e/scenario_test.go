package e2e

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

var update = flag.Bool("update", false, "write the expected outputs in testdata anew")

func TestS01_Scenario(t *testing.T) { t.Parallel(); scenario(t, "s01-classes") }
func TestS14_Scenario(t *testing.T) { t.Parallel(); scenario(t, "s14-nodeport") }
func TestS30_Scenario(t *testing.T) { t.Parallel(); scenario(t, "s30-requested-addresses") }
func TestS34_Scenario(t *testing.T) {
	t.Parallel()
	needsHosts(t)
	scenario(t, "s34-one-port-two-services")
}

// scenario runs a script of testdata: manifests, what users type, and what they see.
// Beside the commands of testscript there are
//
//	kubectl ARG…                  in a namespace of its own
//	pod APP NODE                  starts a pod of an app
//	answers APP ADDRESS [PORT]    waits until an address answers with an app
//	silent ADDRESS [PORT]         waits until it does not answer
//	withdrawn SERVICE             waits until every host has confirmed that
func scenario(t *testing.T, name string) {
	s := besideScene(t)
	testscript.Run(t, testscript.Params{
		Files:              []string{filepath.Join("testdata", name+".txtar")},
		UpdateScripts:      *update,
		RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("KUBECONFIG", env.Kubeconfig())
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"kubectl":   s.scriptKubectl,
			"pod":       s.scriptPod,
			"answers":   s.scriptAnswers,
			"silent":    s.scriptSilent,
			"withdrawn": s.scriptWithdrawn,
		},
	})
}

func (s *scene) scriptKubectl(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(env.Bin("kubectl"), append([]string{"--namespace", s.namespace}, args...)...)
	if (err != nil) != neg {
		ts.Fatalf("kubectl: %v", err)
	}
}

func (s *scene) scriptPod(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: pod APP NODE")
	}
	_, err := env.AddPod(s.t.Context(), cluster.PodSpec{Namespace: s.namespace, Name: args[0] + "-" + args[1], Node: args[1], Labels: map[string]string{"app": args[0]}})
	ts.Check(err)
}

func (s *scene) scriptAnswers(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: answers APP ADDRESS [PORT]")
	}
	port := scriptPort(ts, args[2:])
	ts.Check(wait.Until(s.t.Context(), func(ctx context.Context) error {
		answer, err := s.web(ctx, args[1], port)
		if err == nil && answer.Labels["app"] != args[0] {
			err = fmt.Errorf("answered by %s", answer.Pod)
		}
		return err
	}))
}

func (s *scene) scriptSilent(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 1 {
		ts.Fatalf("usage: silent ADDRESS [PORT]")
	}
	port := scriptPort(ts, args[1:])
	ts.Check(wait.Until(s.t.Context(), func(ctx context.Context) error {
		if answer, err := s.web(ctx, args[0], port); err == nil {
			return fmt.Errorf("still answered by %s", answer.Pod)
		}
		return nil
	}))
}

func (s *scene) scriptWithdrawn(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: withdrawn SERVICE")
	}
	ts.Check(wait.Until(s.t.Context(), func(ctx context.Context) error {
		svc := &corev1.Service{}
		err := env.Kube.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: args[0]}, svc)
		if err == nil && len(svc.Finalizers) > 0 {
			err = fmt.Errorf("finalizers %v", svc.Finalizers)
		}
		return err
	}))
}

func scriptPort(ts *testscript.TestScript, args []string) int32 {
	if len(args) == 0 {
		return 80
	}
	port, err := strconv.ParseUint(args[0], 10, 16)
	ts.Check(err)
	return int32(port)
}
