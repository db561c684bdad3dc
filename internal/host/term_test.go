package host

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// from is a delivery that changes nothing, of a cluster and in an epoch.
func (b *box) from(cluster string, e Epoch) Delivery {
	b.Helper()
	have := b.look().Wanted.Digest()
	return Delivery{Cluster: cluster, Epoch: e, Base: have, Want: have}
}

func (b *box) takes(d Delivery) {
	b.Helper()
	if _, err := b.agent.Apply(b.Context(), d); err != nil {
		b.Fatal(err)
	}
}

// record is what is on the disk.
func (b *box) record() (r modelRecord) {
	b.Helper()
	data, err := os.ReadFile(filepath.Join(b.agent.settings.modelDir(), modelState))
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// Whoever has the key for a moment cannot take the greatest term there is, and with it
// the host for good.
func TestATermDoesNotJump(t *testing.T) {
	b := newBox(t)
	for _, e := range []Epoch{{math.MaxInt64, math.MaxUint64}, {MaxTermJump + 1, 0}} {
		if err := b.failsToTake(CodeTermJump, b.from("", e)); !strings.Contains(err.Message, "reset-term") {
			t.Errorf("%s", err.Message)
		}
	}
	b.takes(b.from("", Epoch{MaxTermJump, 1}))
	b.failsToTake(CodeTermJump, b.from("", Epoch{2*MaxTermJump + 1, 0}))
	b.failsToTake(CodeStaleEpoch, b.from("", Epoch{math.MinInt64, 0}))
	b.failsToTake(CodeStaleEpoch, b.from("", Epoch{MaxTermJump, 1}))
	b.takes(b.from("", Epoch{MaxTermJump, math.MaxUint64}))
	b.takes(b.from("", Epoch{MaxTermJump + 1, 1}))
}

// The first cluster that delivers stays, and others are not told whose the machine is.
func TestAMachineIsOfOneCluster(t *testing.T) {
	b := newBox(t)
	b.takes(b.from("our-uid", Epoch{5, 1}))
	for _, other := range []string{"their-uid", ""} {
		err := b.failsToTake(CodeOtherCluster, b.from(other, Epoch{6, 1}))
		if strings.Contains(err.Message, "uid") || !strings.Contains(err.Message, "reset-term") {
			t.Errorf("%s", err.Message)
		}
		_, failed := b.agent.Render(t.Context(), b.from(other, Epoch{6, 1}))
		if errorCode(failed) != CodeOtherCluster {
			t.Errorf("it renders for %q: %v", other, failed)
		}
	}
	again := b.newAgent("") // in a process of its own
	if _, err := again.Apply(t.Context(), b.from("their-uid", Epoch{6, 1})); errorCode(err) != CodeOtherCluster {
		t.Errorf("%v", err)
	}
	st := b.look()
	if st.Cluster != "our-uid" || st.Epoch != (Epoch{5, 1}) {
		t.Errorf("%+v", st)
	}
	if st.Tells("our-uid") != nil || st.Tells("their-uid") == nil || st.Tells("") == nil || (Status{}).Tells("their-uid") != nil {
		t.Error("who is told is wrong")
	}
	b.takes(b.from("our-uid", Epoch{6, 1}))
}

// What the owner makes live is not a term of anybody's.
func TestTheOwnerDeliversInNoTerm(t *testing.T) {
	b := newBox(t)
	b.takes(b.from("our-uid", Epoch{5, 1}))
	before := b.record()
	d := b.delivery(encoded(t, wants(b.node())))
	d.Owner, d.Cluster, d.Epoch = true, "", Epoch{}
	b.takes(d)
	if now := b.record(); now != before || b.look().Wanted.Len() != 1 {
		t.Errorf("%+v, after %+v", now, before)
	}
	b.takes(b.from("our-uid", Epoch{5, 2}))
}

// The owner may give the machine to another cluster, while an agent runs.
func TestResetTerm(t *testing.T) {
	b := newBox(t)
	b.takes(b.from("our-uid", Epoch{MaxTermJump, 7}))
	live := b.look().Live.Digest()
	owner := b.newAgent("")
	if _, _, err := owner.ResetTerm(t.Context(), "their-uid"); err != nil {
		t.Fatal(err)
	}
	if st := b.look(); st.Cluster != "their-uid" || st.Epoch != (Epoch{}) || st.Live.Digest() != live || !st.Proved {
		t.Errorf("%+v", st)
	}
	b.failsToTake(CodeOtherCluster, b.from("our-uid", Epoch{MaxTermJump, 8}))
	b.takes(b.from("their-uid", Epoch{1, 1}))
	if _, _, err := owner.ResetTerm(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	b.takes(b.from("our-uid", Epoch{1, 1}))
	if r := b.record(); r != (modelRecord{"our-uid", Epoch{1, 1}}) {
		t.Errorf("%+v", r)
	}
}
