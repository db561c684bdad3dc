package openstack

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/monitors"

	"github.com/external-lb/external-lb/provider"
)

// What is PENDING below a load balancer that is ACTIVE is about to be finished, and left alone. Where it stays so,
// it is stuck.
func TestFinishing_EndsSoonOrNever(t *testing.T) {
	for what, begin := range map[string]func(*tree){
		"a listener": func(t *tree) { t.listeners[0].ProvisioningStatus = "PENDING_UPDATE" },
		"a pool":     func(t *tree) { t.pools[1].ProvisioningStatus = "PENDING_CREATE" },
		"a member":   func(t *tree) { t.pools[0].members[1].ProvisioningStatus = "PENDING_UPDATE" },
		"a monitor":  func(t *tree) { t.pools[0].monitor = &monitors.Monitor{ProvisioningStatus: "PENDING_DELETE"} },
	} {
		synctest.Test(t, func(t *testing.T) {
			var m mends
			done, is := made(spec()), made(spec())
			begin(is)
			want := func(moment string, at *tree, finishing bool) {
				if got := m.finishing(at); got != finishing {
					t.Errorf("%s, %s: %t", what, moment, got)
				}
			}
			want("nothing", done, false)
			want("at once", is, true)
			time.Sleep(mendInterval / 2)
			want("a moment later", is, true)
			time.Sleep(mendInterval)
			want("stuck", is, false)
			time.Sleep(3 * mendInterval)
			other := made(spec())
			other.lb.ID = "other"
			want("another one", other, false)
			want("stuck for long", is, false)
			is.lb.ProvisioningStatus = "PENDING_UPDATE"
			want("all of it is at work", is, false)
			is.lb.ProvisioningStatus = active
			want("done with that", is, true)
			want("mended", done, false)
			want("the next change", is, true)
		})
	}
}

// While Octavia is about to finish a part, that is not removed, and the others change: a nodePort
// may be somebody else's by now.
func TestNext_APartThatIsAboutToBeFinishedHoldsUpNoOther(t *testing.T) {
	var asked []string
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path)
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, "{}")
	}))
	defer api.Close()
	for finishing, then := range map[bool]string{true: "PUT /v2.0/lbaas/pools/p1/members", false: "DELETE /v2.0/lbaas/listeners/l0"} {
		asked = nil
		is, want := made(spec()), spec()
		is.lb.ID, is.listeners[0].ProvisioningStatus = "b", "PENDING_UPDATE"
		want.Listeners[1].NodePort = 30081
		s := &session{Cloud: &Cloud{API: WithoutCredentials(api.URL, "p")}, finishing: finishing}
		if changed, err := s.next(t.Context(), is, want); err != nil || !changed || len(asked) != 1 || asked[0] != then {
			t.Errorf("finishing %t: %t, %v, asked %q", finishing, changed, err, asked)
		}
	}
}

// What is answered to Put and what is read back a moment later are the same: else it would look as if somebody else
// had changed it.
func TestInError_IsReadBackAsItWasAnswered(t *testing.T) {
	for what, breaks := range map[string]func(*tree){
		"a listener": func(t *tree) { t.listeners[0].ProvisioningStatus = "ERROR" },
		"a pool":     func(t *tree) { t.pools[0].ProvisioningStatus = "ERROR" },
	} {
		want := spec()
		is := made(want)
		breaks(is)
		answered, back := is.observed(web), is.observed(web)
		if err := (&session{}).rest(is, want, &answered); err != nil {
			t.Fatal(err)
		}
		if answered.State != provider.Live || len(answered.Refused) != 1 || !slices.Equal(back.Refused, answered.Refused) ||
			back.State != answered.State || back.Spec.Digest() != answered.Spec.Digest() {
			t.Errorf("%s: answered %s %v, read back %s %v", what, answered.State, answered.Refused, back.State, back.Refused)
		}
	}
}
