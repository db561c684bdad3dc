package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/controllers"
	"github.com/external-lb/external-lb/internal/preflight"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
)

// apiServerOf is a real one without kinds of ours, and an administrator.
func apiServerOf(t *testing.T) (*cluster.Cluster, client.Client) {
	t.Helper()
	c := cluster.New(t, cluster.Options{ControlPlaneOnly: true})
	kube, err := client.New(c.RESTConfig(), client.Options{Scheme: controllers.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return c, kube
}

func create(t *testing.T, kube client.Client, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := kube.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

// run a command as a user does.
func run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Main(t.Context(), append([]string{"external-lb"}, args...), strings.NewReader(""), &out, &errs)
	return out.String(), errs.String(), code
}

// kubeconfigOf somebody else, who has no rights.
func kubeconfigOf(t *testing.T, config *rest.Config, user string) string {
	t.Helper()
	of := clientcmdapi.NewConfig()
	of.Clusters["c"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData, CertificateAuthority: config.CAFile}
	of.AuthInfos["u"] = &clientcmdapi.AuthInfo{
		ClientCertificateData: config.CertData, ClientKeyData: config.KeyData, ClientCertificate: config.CertFile, ClientKey: config.KeyFile,
		Token: config.BearerToken, Impersonate: user,
	}
	of.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	of.CurrentContext = "x"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*of, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// What the commands say of a real API server.
func TestOnAnAPIServer(t *testing.T) {
	c, kube := apiServerOf(t)
	t.Run("check", func(t *testing.T) { checkOn(t, c, kube) })
	t.Run("events", func(t *testing.T) { eventsOn(t, c, kube) })
	t.Run("completion", func(t *testing.T) { completionOn(t, c) })
}

// checkOn it, before and after the installation.
func checkOn(t *testing.T, c *cluster.Cluster, kube client.Client) {
	stdout, stderr, code := run(t, "check", "--kubeconfig", c.Kubeconfig())
	if code != 2 || !strings.Contains(stdout, "external-lb is not installed in this cluster") || stderr != "" {
		t.Errorf("before: exit code %d\n%s%s", code, stdout, stderr)
	}
	if _, err := envtest.InstallCRDs(c.RESTConfig(), envtest.CRDInstallOptions{Paths: []string{"../../config/crd/bases"}, ErrorIfPathMissing: true}); err != nil {
		t.Fatal(err)
	}
	create(t, kube, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: defaultNamespace}}, deploymentOf("ghcr.io/external-lb/external-lb:v0.1.0"))
	topics := checkAsJSON(t, c.Kubeconfig())
	for topic, want := range map[string]preflight.State{"kubernetes": preflight.OK, "kinds": preflight.OK, "rights": preflight.Fail, "balancers": preflight.Warn} {
		if topics[topic] != want {
			t.Errorf("%s is %s, want %s: %v", topic, topics[topic], want, topics)
		}
	}
	giveRights(t, kube)
	if topics := checkAsJSON(t, c.Kubeconfig()); topics["rights"] != preflight.OK {
		t.Errorf("with the roles of config/rbac: %v", topics)
	}
	stdout, _, code = run(t, "check", "--kubeconfig", kubeconfigOf(t, c.RESTConfig(), "nobody"))
	if code == 0 || !strings.Contains(stdout, "you may not list balancers") || !strings.Contains(stdout, "you may not create subjectaccessreviews") {
		t.Errorf("without rights: exit code %d\n%s", code, stdout)
	}
}

// eventsOn it are told in their order, a Service's with those of its Balancer.
func eventsOn(t *testing.T, c *cluster.Cluster, kube client.Client) {
	begin := time.Date(2026, 11, 26, 14, 0, 0, 0, time.UTC)
	event := func(kind, namespace, name, source, message string, second int) *corev1.Event {
		at := metav1.NewTime(begin.Add(time.Duration(second) * time.Second))
		e := &corev1.Event{Reason: "R", Message: message, Type: corev1.EventTypeNormal, FirstTimestamp: at, LastTimestamp: at, Count: 1}
		e.Namespace, e.Name = cmp.Or(namespace, metav1.NamespaceDefault), fmt.Sprintf("%s.%x", name, second)
		e.InvolvedObject = corev1.ObjectReference{Kind: kind, Namespace: namespace, Name: name}
		e.Source.Component = source
		return e
	}
	many := event("Service", "default", "web", "external-lb", "third", 5)
	many.Count, many.Type = 3, corev1.EventTypeWarning
	create(t, kube, builder.Balancer("edge").Hosts(v1alpha1.Host{Name: "lb1", Address: "192.0.2.5", SecretRef: &corev1.LocalObjectReference{Name: "s"}}).Manifest(),
		builder.Service("default", "web").Class("external-lb.dev/edge").Port(80).Manifest(), many,
		event("Service", "default", "web", "external-lb", "first", 1), event("Balancer", "", "edge", "external-lb", "second", 3),
		event("Service", "default", "web", "somebody", "of others", 2), event("Service", "default", "api", "external-lb", "of api", 4))
	for args, want := range map[string]string{
		"service default/web":          "00:01Z  Service default/web  R: first\n00:03Z  Balancer edge  R: second\n00:05Z  Service default/web  R: third (3 times)\n",
		"service web --namespace shop": "Nothing was told within the last hour or so.\n",
		"balancer edge":                "00:03Z  Balancer edge  R: second\n",
		"": "00:01Z  Service default/web  R: first\n00:03Z  Balancer edge  R: second\n00:04Z  Service default/api  R: of api\n" +
			"00:05Z  Service default/web  R: third (3 times)\n",
	} {
		stdout, stderr, code := run(t, append([]string{"events", "--kubeconfig", c.Kubeconfig()}, strings.Fields(args)...)...)
		if got := strings.ReplaceAll(stdout, "2026-11-26T14:", ""); got != want || code != 0 || stderr != "" {
			t.Errorf("events %s: exit code %d\n%s%swant\n%s", args, code, got, stderr, want)
		}
	}
}

// completionOn it: names, and nothing at all where something is wrong.
func completionOn(t *testing.T, c *cluster.Cluster) {
	t.Setenv("KUBECONFIG", c.Kubeconfig())
	for words, want := range map[string]string{
		"explain service default/w":                    "default/web\n",
		"explain service --namespace=shop ":            "",
		"events ":                                      "balancer\npool\nservice\n",
		"events balancer ":                             "edge\n",
		"events service default/":                      "default/kubernetes\ndefault/web\n",
		"diff ":                                        "edge\n",
		"check --namespace external":                   "external-lb-system\n",
		"explain service --manager-namespace external": "external-lb-system\n",
		"top --sort ":                                  "down\nfailed\nin\nnew\nopen\nout\nrefused\n",
		"check --context ":                             "test\n",
		"status --output ":                             "tree\nwide\njson\nyaml\n",
	} {
		stdout, _, _ := run(t, append([]string{"__complete"}, strings.Split(words, " ")...)...)
		if got, _, _ := strings.Cut(stdout, ":4\n"); got != want {
			t.Errorf("%s: %q, want %q", words, got, want)
		}
	}
	for _, kubeconfig := range []string{"nothing-here", kubeconfigOf(t, c.RESTConfig(), "nobody")} {
		if stdout, _, code := run(t, "__complete", "diff", "--kubeconfig", kubeconfig, ""); stdout != ":4\n" || code != 0 {
			t.Errorf("%s: exit code %d, %q", kubeconfig, code, stdout)
		}
	}
}

// checkAsJSON is the worst state of each topic.
func checkAsJSON(t *testing.T, kubeconfig string) map[string]preflight.State {
	t.Helper()
	stdout, stderr, _ := run(t, "check", "--kubeconfig", kubeconfig, "-o", "json")
	var said struct{ Checks preflight.Checks }
	if err := json.Unmarshal([]byte(stdout), &said); err != nil {
		t.Fatalf("%v\n%s%s", err, stdout, stderr)
	}
	by := map[string]preflight.Checks{}
	for _, c := range said.Checks {
		by[c.Topic] = append(by[c.Topic], c)
	}
	out := map[string]preflight.State{}
	for topic, checks := range by {
		out[topic] = checks.Worst()
	}
	return out
}

func deploymentOf(image string) *appsv1.Deployment {
	labels := map[string]string{"app.kubernetes.io/name": deploymentName}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: defaultNamespace, Name: deploymentName, Labels: labels}}
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	d.Spec.Template.Labels = labels
	d.Spec.Template.Spec = corev1.PodSpec{ServiceAccountName: deploymentName, Containers: []corev1.Container{{Name: "manager", Image: image}}}
	return d
}

// giveRights to the manager: those of config/rbac.
func giveRights(t *testing.T, kube client.Client) {
	t.Helper()
	for _, file := range []string{"role.yaml", "role_binding.yaml"} {
		data, err := os.ReadFile("../../config/rbac/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for part := range strings.SplitSeq(string(data), "\n---\n") {
			object, _, err := serializer.NewCodecFactory(controllers.Scheme()).UniversalDeserializer().Decode([]byte(part), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			created, ok := object.(client.Object)
			if !ok {
				t.Fatalf("%T", object)
			}
			create(t, kube, created)
		}
	}
}
