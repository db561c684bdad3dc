package fileset

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func file(t rapid.TB, path, data string) File {
	t.Helper()
	f, err := NewFile(path, []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestPathsThatAreRefused(t *testing.T) {
	for _, path := range []string{"", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "A", "a b", "a\nb", "services/..conf", ".hidden", fmt.Sprintf("%0256d", 0)} {
		if _, err := NewFile(path, nil); err == nil {
			t.Errorf("took the path %q", path)
		}
	}
}

func TestTwoFilesOfOnePath(t *testing.T) {
	if _, err := New(file(t, "a", "1"), file(t, "a", "2")); err == nil {
		t.Error("took two files of one path")
	}
}

func TestDigestNamesTheContent(t *testing.T) {
	a, _ := New(file(t, "a", "1"), file(t, "b", "2"))
	same, _ := New(file(t, "b", "2"), file(t, "a", "1"))
	if a.Digest() != same.Digest() {
		t.Error("the order of files changes the digest")
	}
	for name, files := range map[string][]File{
		"content": {file(t, "a", "1"), file(t, "b", "3")},
		"path":    {file(t, "a", "1"), file(t, "c", "2")},
		"fewer":   {file(t, "a", "1")},
		"swapped": {file(t, "a", "2"), file(t, "b", "1")},
	} {
		other, err := New(files...)
		if err != nil {
			t.Fatal(err)
		}
		if other.Digest() == a.Digest() {
			t.Errorf("another %s has the same digest", name)
		}
	}
}

// Applying a diff to what a host has gives what it should have.
func TestDiffLeadsThere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := func(label string) *Set {
			contents := rapid.MapOf(rapid.SampledFrom([]string{"a", "b", "c/d", "c/e"}), rapid.SampledFrom([]string{"", "1", "2"})).Draw(t, label)
			var files []File
			for path, data := range contents {
				files = append(files, file(t, path, data))
			}
			s, err := New(files...)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		have, want := set("have"), set("want")
		change := Diff(have.Manifest(), want)
		now := maps.Clone(have.Manifest())
		for _, path := range change.Delete {
			if _, there := now[path]; !there {
				t.Errorf("deletes %s, which is not there", path)
			}
			delete(now, path)
		}
		for _, f := range change.Put {
			if now[f.Path] == f.Sum && have.Len() > 0 {
				if _, there := have.Get(f.Path); there {
					t.Errorf("sends %s, which is there", f.Path)
				}
			}
			now[f.Path] = f.Sum
		}
		if now.Digest() != want.Digest() {
			t.Errorf("leads to %v, want %v", now, want.Manifest())
		}
		if change.Empty() != (have.Digest() == want.Digest()) {
			t.Errorf("empty: %t for %s and %s", change.Empty(), have.Digest(), want.Digest())
		}
	})
}

func TestWithout(t *testing.T) {
	s, _ := New(file(t, "a", "1"), file(t, "b", "2"), file(t, "c", "3"))
	var left []string
	for f := range s.Without("b", "absent").All() {
		left = append(left, f.Path)
	}
	if want := []string{"a", "c"}; !slices.Equal(left, want) {
		t.Errorf("left %v, want %v", left, want)
	}
	if _, ok := s.Get("b"); !ok {
		t.Error("the set itself changed")
	}
}
