package controllers

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

// vault is what the API server has of Secrets, and what the cache knows of them.
type vault struct{ server, known secrets }

// newVault has policies read from it.
func newVault(p *onePlace) *vault {
	v := &vault{}
	p.r.certs = &certificates{reader: reader{Reader: &v.known}, content: &v.server, allowed: true}
	return v
}

func (v *vault) put(t *testing.T, name, version string) {
	t.Helper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), ResourceVersion: version},
		Type: corev1.SecretTypeTLS, Data: pair(t, time.Now().Add(-time.Hour), time.Now().Add(time.Duration(100+len(name+version))*time.Hour))}
	v.server.put(t, s)
	v.known.put(t, s)
}

// certificates that the host is to have.
func (h *provingHost) certificates() (n int) {
	for item := range h.wanted.All() {
		if part, err := lb.Decode(item); err == nil {
			if _, is := part.(*lb.Certificate); is {
				n++
			}
		}
	}
	return n
}

func (p *onePlace) programmed(i int) string {
	obj, _, err := p.reader.services.GetByKey(fmt.Sprintf("default/service-%d", i))
	if err != nil {
		p.tb.Fatal(err)
	}
	return meta.FindStatusCondition(obj.(*corev1.Service).Status.Conditions, v1alpha1.ConditionServiceProgrammed).Message
}

// A Secret that the API server does not give holds up nothing else: what was read of it stays
// in force, and who never had it is told.
func TestASecretThatCannotBeRead(t *testing.T) {
	p := newOnePlace(t, 3, 1)
	v := newVault(p)
	v.put(t, "web", "1")
	p.put(builder.UpstreamPolicy("default", "web").For("service-0").TLS("web").Obj())
	p.settle()
	if n := p.host.certificates(); n != 1 {
		t.Fatalf("%d certificates", n)
	}
	before := p.host.wanted.Digest()
	v.server.err = errors.New("the keeper of the keys is down")
	v.put(t, "web", "2")
	v.put(t, "new", "1")
	p.put(builder.UpstreamPolicy("default", "new").For("service-1").TLS("new").Obj())
	p.change(2)
	p.settle()
	if n := p.host.certificates(); n != 1 || p.host.wanted.Digest() == before {
		t.Errorf("%d certificates; something was delivered: %t", n, p.host.wanted.Digest() != before)
	}
	const words = "the Secret new cannot be read, and is tried again: the keeper of the keys is down"
	if said := p.programmed(1); !strings.Contains(said, words) {
		t.Errorf("who never had it is told %q", said)
	}
	if c := meta.FindStatusCondition(p.status.Status.Conditions, v1alpha1.ConditionDegraded); c == nil || c.Reason != v1alpha1.ReasonSecretsUnreadable ||
		!strings.Contains(c.Message, "default/new: the keeper of the keys is down; default/web: ") {
		t.Errorf("the Balancer says %+v", c)
	}
	p.r.pace.causes.must("edge", false)
	if again, err := p.r.Reconcile(t.Context(), request("edge")); err != nil || again.RequeueAfter == 0 || again.RequeueAfter > longestSetback {
		t.Errorf("it is tried again after %v: %v", again.RequeueAfter, err)
	}
	v.server.err = nil
	v.put(t, "new", "2")
	v.put(t, "web", "33")
	p.settle()
	if n := p.host.certificates(); n != 2 || strings.Contains(p.programmed(1), "cannot be read") {
		t.Errorf("once it can be read: %d certificates, %q", n, p.programmed(1))
	}
}

// A manager that begins to lead and cannot read what hosts serve takes it from nobody.
func TestASecretThatCannotBeReadByANewLeader(t *testing.T) {
	p := newOnePlace(t, 2, 1)
	v := newVault(p)
	v.put(t, "web", "1")
	p.put(builder.UpstreamPolicy("default", "web").For("service-0").TLS("web").Obj())
	p.settle()
	served := p.host.wanted
	delete(p.r.memory, "edge")
	p.r.certs.read = nil
	v.server.err = errors.New("the keeper of the keys is down")
	p.put(builder.Node("another").IP("172.17.0.1").Obj())
	p.reconcile()
	if p.host.wanted != served {
		t.Fatal("something else was delivered")
	}
	if c := meta.FindStatusCondition(p.status.Status.Conditions, v1alpha1.ConditionDegraded); c == nil || !strings.Contains(c.Message, "hosts go on with what they carry") {
		t.Errorf("the Balancer says %+v", c)
	}
	v.server.err = nil
	v.put(t, "web", "2")
	p.reconcile()
	if p.host.wanted == served || p.host.certificates() != 1 {
		t.Errorf("once it can be read: %d certificates", p.host.certificates())
	}
}

// One that cannot be read is asked for less and less often, and its first words stay: others
// would be told each time.
func TestASecretIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server, known secrets
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "web", ResourceVersion: "1"}}
		server.put(t, s)
		known.put(t, s)
		c := &certificates{reader: reader{Reader: &known}, content: &server, allowed: true}
		policies := []*v1alpha1.UpstreamPolicy{builder.UpstreamPolicy("default", "web").For("web").TLS("web").Obj()}
		words := []int{0, 1, 1, 3, 3, 3, 3} // others at each try are told ever less often
		for try, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
			server.err = fmt.Errorf("connection %d", try)
			for range 2 { // the second time it is not asked
				found, err := c.of(t.Context(), policies)
				key := client.ObjectKeyFromObject(s)
				if err != nil || found.again != want*time.Second || found.unread[key].Error() != fmt.Sprint("connection ", words[try]) || found.Certificates[key].Problem == nil {
					t.Errorf("try %d: again after %v, want %ds; %v, %v", try, found.again, want, found.unread, err)
				}
			}
			if server.reads != try+1 {
				t.Errorf("try %d: it was asked %d times", try, server.reads)
			}
			<-time.After(want * time.Second)
		}
	})
}
