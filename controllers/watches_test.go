package controllers

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/rest"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

// mute has the API server tell nothing of UpstreamPolicies for a while.
type mute struct {
	http.RoundTripper
	mu    sync.Mutex
	on    bool
	heard []io.Closer // what listens to it
}

func (m *mute) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := m.RoundTripper.RoundTrip(r)
	if err != nil || r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/upstreampolicies") {
		return answer, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.on {
		answer.Body.Close()
		return nil, errors.New("it tells nothing of them")
	}
	m.heard = append(m.heard, answer.Body)
	return answer, nil
}

func (m *mute) set(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.on = on
	for _, body := range m.heard {
		body.Close()
	}
	m.heard = nil
}

// After an outage of the API server Services come before policies that were made before them: they wait, and are
// not served for a moment without what their owner wants.
func TestNoServiceIsServedWithoutItsPolicy(t *testing.T) {
	w, m := newWorld(t), &mute{}
	w.stop()
	w.api = rest.CopyConfig(w.api)
	w.api.Wrap(func(rt http.RoundTripper) http.RoundTripper { m.RoundTripper = rt; return m })
	w.start()
	w.published(w.service("old"))
	m.set(true)
	w.create(builder.UpstreamPolicy(w.namespace, "web").For("web").Retries(3).Manifest())
	web := w.service("web")
	w.until(web, "it waits", func(s *corev1.Service) bool {
		c := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionServiceProgrammed)
		return c != nil && c.Reason == v1alpha1.ReasonPending && strings.Contains(c.Message, "does not tell of UpstreamPolicies")
	})
	w.host.set(func(h *fakeHost) { h.refuse = map[string]string{"web": "not yet"} }) // what comes first is looked at
	m.set(false)
	w.until(web, "its host is asked", func(s *corev1.Service) bool {
		c := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionServiceProgrammed)
		return c != nil && strings.Contains(c.Message, "not yet")
	})
	w.host.set(func(h *fakeHost) {
		for item := range h.wanted.All() {
			part, err := lb.Decode(item)
			if svc, is := part.(*lb.Service); err == nil && is && svc.ID.Name == "web" && svc.Frontends[0].Settings.Retries != 3 {
				t.Errorf("without its policy: %+v", svc.Frontends[0])
			}
		}
		h.refuse = nil
	})
}

func TestWatchesThatBreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatches()
		says := func(what, want string) {
			t.Helper()
			if got := w.unheard(); got != want {
				t.Errorf("%s: %q is not heard of, want %q", what, got, want)
			}
		}
		w.began("Pools")
		w.began("Policies")
		says("from the start", "")
		w.ended("Pools")
		says("the end of one", "Pools")
		time.Sleep(gap)
		w.began("Pools")
		says("the next one, at once", "")
		w.ended("Policies")
		time.Sleep(time.Minute)
		says("an outage", "Policies")
		w.ended("Pools")
		for range 20 { // else each look would tell Services something else
			says("an outage of both", "Policies")
		}
		w.began("Pools")
		w.began("Policies")
		says("just back", "Policies")
		time.Sleep(catchUp)
		says("back", "")
	})
}
