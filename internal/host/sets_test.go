package host

import (
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
)

// A daemon is told what its files print, of the set that is there now.
func TestSetOfAStore(t *testing.T) {
	dir := t.TempDir()
	s, err := openStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.root.Mkdir(engine.GenerationsDir, 0o755); err != nil {
		t.Fatal(err)
	}
	reader := &sets{dir: dir, ownFile: "own.conf"}
	if none, err := reader.at(engine.LiveLink); err != nil || none.Digest != "" || len(none.Paths) > 0 {
		t.Errorf("nothing is live: %+v, %v", none, err)
	}
	// generation is one with the same text each time, which prints something.
	generation := func(b *base, view string) *staged {
		t.Helper()
		g, err := s.stage(b, map[string]planned{
			"services/a.conf": {entry{}, func() (made, error) { return made{data: []byte("text"), view: []byte(view)}, nil }},
			"main.conf":       {entry{}, func() (made, error) { return made{data: []byte("text")}, nil }},
		}, view, &sums{})
		if err == nil {
			err = g.seal("own.conf", nil)
		}
		if err == nil {
			err = s.link(engine.LiveLink, g.name)
		}
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	var digests []fileset.Digest
	for _, number := range []int{1, 2} { // the second in the place of the first, which was rolled back
		g := generation(noBase(), strings.Repeat("1", number))
		for range 2 {
			set, err := reader.at(engine.LiveLink)
			if err != nil || set.Digest != g.Digest() || !cmp.Equal(set.Paths, []string{"services/a.conf"}) {
				t.Fatalf("%+v, %v", set, err)
			}
			var got int
			if has, err := set.View("services/a.conf", &got); !has || err != nil || got != []int{1, 11}[number-1] {
				t.Errorf("%t, %v, %d", has, err, got)
			}
			if has, err := set.View("main.conf", &got); has || err != nil {
				t.Errorf("%t, %v", has, err)
			}
		}
		digests = append(digests, g.Digest())
		if number == 1 {
			if err := s.root.RemoveAll(g.path()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if digests[0] == digests[1] {
		t.Error("what files print makes no other generation")
	}
	if err := s.root.WriteFile(path.Join(engine.GenerationsDir, "1", viewPath("services/a.conf")), []byte("3"), 0o644); err != nil {
		t.Fatal(err)
	}
	set, err := reader.at(engine.LiveLink)
	if err != nil {
		t.Fatal(err)
	}
	var got int
	if _, err := set.View("services/a.conf", &got); err == nil || !strings.Contains(err.Error(), "somebody else has changed") {
		t.Errorf("%d, %v", got, err)
	}
}
