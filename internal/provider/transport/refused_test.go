package transport

import (
	"testing"

	"github.com/external-lb/external-lb/internal/provider/providertest"
	"github.com/external-lb/external-lb/provider"
)

// What was refused of a load balancer is in the answer to a request, and a list may leave it out. That is neither
// drift nor somebody else, and costs no request before its time.
func TestRefusedPort_IsNoContest(t *testing.T) {
	w := newWorld(t)
	web := service("web", 30080)
	web.Frontends = append(web.Frontends, frontend("192.0.2.1", 443, 30443))
	w.PutFault = func(s provider.Spec) (*provider.Observed, error) {
		id := provider.ID{Cluster: Owner("c1", "edge"), Service: web.ID.UID}
		refused := []provider.Refusal{{Port: 443, Protocol: provider.TCP, Reason: provider.QuotaExceeded, Message: "one is enough"}}
		w.All[id] = s.Without(refused)
		o := providertest.Observed(id, w.All[id])
		o.Refused = refused
		return &o, nil
	}
	for range 5 {
		out, err := w.apply(config(web))
		if err != nil || len(out.Refused) != 1 || out.Refused[0].Listener.Port != 443 {
			t.Errorf("refused %v, %v", out.Refused, err)
		}
		if live, wanted := out.Live.Digest(), out.Wanted.Digest(); live != wanted {
			t.Errorf("%s is live, and wanted is %s", live, wanted)
		}
	}
	if why := w.conn.(*conn).Contested(); why != "" {
		t.Error(why)
	}
	if w.Puts != 1 {
		t.Errorf("%d requests", w.Puts)
	}
}
