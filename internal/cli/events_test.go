package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/external-lb/external-lb/controllers"
)

// Who watches is told each event once, and of one that comes again how often; and, once, that
// the API server does not answer.
func TestEvents_WatchTellsWhatIsNew(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	say := func(name, message string, count int32) corev1.Event {
		return corev1.Event{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Reason: "R", Message: message, Count: count,
			InvolvedObject: corev1.ObjectReference{Kind: "Balancer", Name: "edge"},
		}
	}
	forged := say("c", "from a tenant's namespace", 1)
	forged.Namespace = "tenant"
	turns := []func(*corev1.EventList) error{
		func(l *corev1.EventList) error {
			l.Items = []corev1.Event{say("a", "one\x1b[2J", 1), forged}
			return nil
		},
		func(*corev1.EventList) error { return errors.New("re\x1b[2Jfused") },
		func(*corev1.EventList) error { return errors.New("re\x1b[2Jfused") },
		func(l *corev1.EventList) error {
			l.Items = []corev1.Event{say("a", "one\x1b[2J", 2), say("b", "two", 1)}
			return nil
		},
		func(*corev1.EventList) error { cancel(); return ctx.Err() },
	}
	kube := interceptor.NewClient(fake.NewClientBuilder().WithScheme(controllers.Scheme()).Build(), interceptor.Funcs{
		List: func(_ context.Context, _ client.WithWatch, list client.ObjectList, _ ...client.ListOption) error {
			events, ok := list.(*corev1.EventList)
			if !ok {
				t.Errorf("%T was listed", list)
			}
			turn := turns[0]
			turns = turns[1:]
			return turn(events)
		},
	})
	var out, errs bytes.Buffer
	teller := &teller{kube: kube, about: subject{kind: "Balancer", ObjectKey: client.ObjectKey{Name: "edge"}}, out: &out, errs: &errs}
	if err := teller.follow(ctx, time.Microsecond); err != nil {
		t.Fatal(err)
	}
	var said []string
	for line := range strings.Lines(out.String() + errs.String()) {
		_, text, _ := strings.Cut(strings.TrimSpace(line), "  ")
		said = append(said, text)
	}
	want := []string{
		"Balancer edge  R: one [2J", "Balancer edge  R: one [2J (2 times)", "Balancer edge  R: two",
		"asking the API server: re [2Jfused; asking again", "the API server answers again",
	}
	if got := strings.Join(said, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("%s", got)
	}
}

// What is asked about, in the words that people use.
func TestEvents_Subjects(t *testing.T) {
	server := &apiServer{kubeconfig: "testdata/kubeconfig"}
	for words, want := range map[string]subject{
		"":                {},
		"service a/b":     {"Service", client.ObjectKey{Namespace: "a", Name: "b"}},
		"svc b":           {"Service", client.ObjectKey{Namespace: "of-context", Name: "b"}},
		"balancer edge":   {"Balancer", client.ObjectKey{Name: "edge"}},
		"addresspool all": {"AddressPool", client.ObjectKey{Name: "all"}},
	} {
		if got, err := server.subject("", strings.Fields(words)); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", words, got, err, want)
		}
	}
	if _, err := server.subject("", []string{"host", "lb1"}); err == nil {
		t.Error("hosts have no events")
	}
}

// Who asks in vain is told so, and has nothing to watch.
func TestEvents_TheFirstLookMayFail(t *testing.T) {
	refused := errors.New("refused")
	kube := interceptor.NewClient(fake.NewClientBuilder().WithScheme(controllers.Scheme()).Build(), interceptor.Funcs{
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error { return refused },
	})
	var out bytes.Buffer
	if err := (&teller{kube: kube, out: &out, errs: &out}).follow(t.Context(), time.Microsecond); !errors.Is(err, refused) || out.Len() > 0 {
		t.Errorf("%v, %q", err, out.String())
	}
}

// Of very many events some are left out, and that is said once.
func TestEvents_AreBounded(t *testing.T) {
	asked := 0
	kube := interceptor.NewClient(fake.NewClientBuilder().WithScheme(controllers.Scheme()).Build(), interceptor.Funcs{
		List: func(_ context.Context, _ client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			var o client.ListOptions
			o.ApplyOptions(options)
			if asked++; o.Limit != eventsAtOnce || asked > 1 && o.Continue != "more" {
				t.Errorf("question %d is %+v", asked, o)
			}
			events, ok := list.(*corev1.EventList)
			if !ok {
				t.Errorf("%T was listed", list)
			}
			events.Items, events.Continue = make([]corev1.Event, eventsAtOnce), "more"
			return nil
		},
	})
	var out, errs bytes.Buffer
	teller := &teller{kube: kube, out: &out, errs: &errs}
	story, err := teller.story(t.Context())
	if err != nil || len(story) != mostEvents || asked != mostEvents/eventsAtOnce {
		t.Errorf("%d events, %d questions, %v", len(story), asked, err)
	}
	asked = 0
	if _, err := teller.story(t.Context()); err != nil || strings.Count(errs.String(), "left out") != 1 {
		t.Errorf("%v, %q", err, errs.String())
	}
}
