package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/record"
)

func newEvents() *cobra.Command {
	var server apiServer
	var namespace, output string
	var watch bool
	cmd := &cobra.Command{
		Use:   "events [service NAMESPACE/NAME | balancer NAME | pool NAME]",
		Short: "Tell what has happened, in its order: to all, or to a Service and its Balancer",
		Long: `Print the events that the manager has written, the oldest first: all of them, those of a
Balancer or an AddressPool, or those of a Service together with its Balancer's. API
servers keep events for an hour, mostly. Who may write events of a namespace can add to
them in the manager's name. With --watch it goes on with what happens next
until Ctrl-C, and says if the API server does not answer meanwhile.`,
		Example: `  external-lb events
  external-lb events service default/web
  external-lb events balancer edge --watch`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 0 && len(args) != 2 {
				return errors.New("say which: external-lb events service NAMESPACE/NAME, balancer NAME or pool NAME")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output, "text", "json", "yaml"); err != nil {
				return err
			}
			if watch && output != "text" {
				return fmt.Errorf("--watch prints text, not %s", output)
			}
			about, err := server.subject(namespace, args)
			if err != nil {
				return err
			}
			kube, err := server.client()
			if err != nil {
				return err
			}
			t := &teller{kube: kube, about: about, out: cmd.OutOrStdout(), errs: cmd.ErrOrStderr()}
			if watch {
				return t.follow(cmd.Context(), watchEvery)
			}
			return t.once(cmd.Context(), output)
		},
		ValidArgsFunction: server.completeSubject,
	}
	server.flags(cmd)
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "namespace of the Service (default: that of the context)")
	server.completeNamespaces(cmd, "namespace")
	outputFlag(cmd, &output, "text", "json", "yaml")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on with what happens next")
	return cmd
}

// subject is what events are about. Without a kind it is everything.
type subject struct {
	kind string
	client.ObjectKey
}

// subject that args name.
func (a *apiServer) subject(namespace string, args []string) (subject, error) {
	if len(args) == 0 {
		return subject{}, nil
	}
	switch args[0] {
	case "service", "svc", "services":
		key, err := a.key(namespace, args[1])
		return subject{"Service", key}, err
	case "balancer", "balancers", "bal":
		return subject{"Balancer", client.ObjectKey{Name: args[1]}}, nil
	case "pool", "pools", "addresspool", "addresspools":
		return subject{"AddressPool", client.ObjectKey{Name: args[1]}}, nil
	}
	return subject{}, fmt.Errorf("%q has no events here: want service, balancer or pool", args[0])
}

// moment is one event, or several that say the same.
type moment struct {
	At      time.Time `json:"at"` // the last of them
	Object  string    `json:"object"`
	Type    string    `json:"type"` // Normal or Warning
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Count   int32     `json:"count"`

	name string
}

// teller prints events, each once.
type teller struct {
	kube      client.Client
	about     subject
	out, errs io.Writer
	told      map[string]int32 // how many of an event were told
	noted     map[string]bool  // what could not be read
}

// note what is left out, once.
func (t *teller) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !t.noted[text] {
		fmt.Fprintln(t.errs, text)
	}
	if t.noted == nil {
		t.noted = map[string]bool{}
	}
	t.noted[text] = true
}

func (t *teller) once(ctx context.Context, output string) error {
	story, err := t.story(ctx)
	if err != nil {
		return err
	}
	if output != "text" {
		return encode(t.out, output, map[string]any{"events": story})
	}
	if len(story) == 0 {
		_, err := fmt.Fprintln(t.out, "Nothing was told within the last hour or so.")
		return err
	}
	return t.print(story)
}

// follow prints what is new until the context ends. An API server that does not answer is
// told, once, and so is that it answers again.
func (t *teller) follow(ctx context.Context, every time.Duration) error {
	silent := "" // why it does not answer
	for first := true; ; first = false {
		began := time.Now()
		story, err := t.story(ctx)
		long := pause(every, time.Since(began))
		switch {
		case ctx.Err() != nil:
			return nil // Ctrl-C
		case err != nil && first:
			return err
		case err != nil && err.Error() != silent:
			silent = err.Error()
			fmt.Fprintf(t.errs, "%s  %s; asking again\n", stamp(time.Now()), plain(err.Error()))
		case err == nil && silent != "":
			silent = ""
			fmt.Fprintf(t.errs, "%s  the API server answers again\n", stamp(time.Now()))
		}
		if err != nil {
			long = every
		} else if err := t.print(story); err != nil {
			return err
		}
		if err := sleep(ctx, long); err != nil {
			return nil
		}
	}
}

// print what was not told yet.
func (t *teller) print(story []moment) error {
	p, told := newPaint(t.out), t.told
	t.told = make(map[string]int32, len(story)) // of those that are gone nothing is kept
	for _, m := range story {
		t.told[m.name] = m.Count
		if told[m.name] == m.Count {
			continue
		}
		reason, times := plain(m.Reason), ""
		if m.Type == corev1.EventTypeWarning {
			reason = p.bad(reason)
		}
		if m.Count > 1 {
			times = fmt.Sprintf(" (%d times)", m.Count)
		}
		if _, err := fmt.Fprintf(t.out, "%s  %s  %s: %s%s\n", stamp(m.At), p.bold(plain(m.Object)), reason, plain(m.Message), times); err != nil {
			return err
		}
	}
	return nil
}

// story are the events of what is asked about, in their order.
func (t *teller) story(ctx context.Context) (out []moment, err error) {
	about, err := t.all(ctx)
	if err != nil {
		return nil, err
	}
	out = []moment{}
	for _, s := range about {
		found, err := t.events(ctx, s)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	slices.SortFunc(out, func(a, b moment) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.name, b.name)) })
	return out, nil
}

// all that is asked about: a Service goes with the Balancers that hold it or may serve it.
func (t *teller) all(ctx context.Context) ([]subject, error) {
	about := []subject{t.about}
	if t.about.kind != "Service" {
		return about, nil
	}
	svc := &corev1.Service{}
	if err := t.kube.Get(ctx, t.about.ObjectKey, svc); err != nil {
		if apierrors.IsNotFound(err) {
			return about, nil // what happened to it before is told
		}
		return nil, fmt.Errorf("asking the API server: %w", err)
	}
	names := record.Holders(svc)
	if len(names) == 0 {
		var list v1alpha1.BalancerList
		if err := t.kube.List(ctx, &list); err != nil && !apierrors.IsForbidden(err) {
			return nil, fmt.Errorf("asking the API server: %w", err)
		}
		o := newObjects()
		for i := range list.Items {
			o.add(&list.Items[i])
		}
		for _, b := range plan.NewClaims(o.balancers, nil, nil).MayServe(svc) {
			names = append(names, b.Name)
		}
	}
	for _, name := range names {
		about = append(about, subject{"Balancer", client.ObjectKey{Name: name}})
	}
	return about, nil
}

// events of one subject that the manager wrote.
func (t *teller) events(ctx context.Context, s subject) (out []moment, err error) {
	selector := fields.Set{"source": "external-lb"}
	var options []client.ListOption
	if s.kind != "" {
		selector["involvedObject.kind"], selector["involvedObject.name"] = s.kind, s.Name
		options = append(options, client.InNamespace(cmp.Or(s.Namespace, metav1.NamespaceDefault)))
	}
	items, err := t.list(ctx, append(options, client.MatchingFieldsSelector{Selector: selector.AsSelector()}, client.Limit(eventsAtOnce)))
	if apierrors.IsForbidden(err) && s != t.about { // the rest of the story is worth telling
		t.note("you may not list events in %s: those of %s %s are left out", metav1.NamespaceDefault, s.kind, s.Name)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("asking the API server: %w", err)
	}
	for _, e := range items {
		o := e.InvolvedObject
		if (o.Kind == "Balancer" || o.Kind == "AddressPool") && e.Namespace != metav1.NamespaceDefault {
			continue // the manager tells of what has no namespace there, and tenants write where they like
		}
		m := moment{
			At: cmp.Or(e.LastTimestamp.Time, e.EventTime.Time, e.CreationTimestamp.Time), Object: o.Kind + " " + o.Name,
			Type: e.Type, Reason: e.Reason, Message: e.Message, Count: max(1, e.Count), name: e.Namespace + "/" + e.Name,
		}
		if o.Namespace != "" {
			m.Object = o.Kind + " " + o.Namespace + "/" + o.Name
		}
		out = append(out, m)
	}
	return out, nil
}

// Events are read in parts, and no more than anybody would want to see.
const (
	eventsAtOnce = 500
	mostEvents   = 20 * eventsAtOnce
)

func (t *teller) list(ctx context.Context, options []client.ListOption) (items []corev1.Event, err error) {
	for token := ""; ; {
		var part corev1.EventList
		if err := t.kube.List(ctx, &part, slices.Concat(options, []client.ListOption{client.Continue(token)})...); err != nil {
			return nil, err
		}
		items = append(items, part.Items...)
		switch token = part.Continue; {
		case token == "":
			return items, nil
		case len(items) >= mostEvents:
			t.note("there are more than %d events, and the others are left out: name a Service, a Balancer or a pool", mostEvents)
			return items, nil
		}
	}
}
