package conditions

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/test/builder"
)

func TestNotesOfAHost(t *testing.T) {
	s := deliver.State{Host: "lb1", State: v1alpha1.HostInSync, Warning: strings.Repeat("w", 9000), Clock: time.Minute, Restarted: "started anew"}
	for i, use := range s.Uses.All() {
		if noteOf[use.Name] == "" {
			t.Errorf("%d: %s has no reason", i, use.Name)
		}
	}
	s.Uses.Files.Used, s.Uses.Files.Limit = 80, 100
	b := builder.Balancer("edge").Hosts(v1alpha1.Host{Name: "lb1"}).Obj()
	reasons := func() (all []string) {
		b.Status.Hosts = Hosts(b, []deliver.State{s})
		for _, n := range b.Status.Hosts[0].Notes {
			if all = append(all, n.Reason); n.Message == "" || len(n.Message) > maxNote {
				t.Errorf("a note of %d bytes", len(n.Message))
			}
		}
		return all
	}
	want := []string{v1alpha1.NoteWarns, v1alpha1.NoteClock, v1alpha1.NoteRestarted, v1alpha1.NoteFiles}
	expect := func(when string, want []string) {
		t.Helper()
		if diff := cmp.Diff(want, reasons()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	expect("at first", want)
	known := s
	s = deliver.State{Host: "lb1", State: v1alpha1.HostConnecting}
	expect("after a restart of the controller", want)
	s = known
	s.Warning, s.Clock, s.Restarted, s.Uses.Files.Used = "", 0, "", 71
	expect("a little less", []string{v1alpha1.NoteFiles})
	s.Uses.Files.Used = 69
	expect("clearly less", nil)
	s.Uses.Files.Used = 79
	expect("a little more", nil)
}
