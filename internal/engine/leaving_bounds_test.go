package engine

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// However many leave at once: there is a bound, also for the file, and who leaves already has its time.
func TestLeaving_IsBounded(t *testing.T) {
	l := NewLeaving(filepath.Join(t.TempDir(), "leaving.json"))
	l.Leave(map[string]time.Duration{"first": time.Nanosecond})
	many := map[string]time.Duration{}
	for i := range 120_000 {
		many[fmt.Sprintf("%s/%d", strings.Repeat("s", 200), i)] = time.Nanosecond
	}
	l.Leave(many)
	late := l.Late(0)
	if len(late) > 100_000 || late[0] != "first" {
		t.Errorf("%d are late, the first is %.20q", len(late), late[0])
	}
	if info, err := os.Stat(l.path); err != nil || info.Size() > leavingBytes {
		t.Errorf("%v, %v", info, err)
	}
	if err := l.Missed(); err == nil || !strings.Contains(err.Error(), "more than 100000 leave at once") {
		t.Errorf("it says %v", err)
	}
	l.all = map[string]leaver{} // nobody writes more
	for name := range many {
		l.all[name] = leaver{Since: 1}
	}
	l.keep()
	again := NewLeaving(l.path)
	if late := again.Late(1); len(late) > 0 || again.Missed() == nil {
		t.Errorf("of a file that has too many, %d are late; %v", len(late), again.Missed())
	}
}

// One tenant may have all the room while nobody else needs it. It never takes another one's.
func TestLeaving_ATenantFillsItsOwnRoomAlone(t *testing.T) {
	crowd := func(of string, n int) map[string]time.Duration {
		all := map[string]time.Duration{}
		for i := range n {
			all[fmt.Sprintf("%s.web/%d", of, i)] = time.Nanosecond
		}
		return all
	}
	have := func(l *Leaving) map[string]int {
		counts := map[string]int{}
		for _, name := range l.Late(0) {
			of, _, _ := strings.Cut(name, ".")
			counts[of]++
		}
		return counts
	}
	l := NewLeaving(filepath.Join(t.TempDir(), "leaving.json"))
	for _, step := range []struct {
		of   string
		n    int
		want map[string]int
	}{
		{"greedy", MaxLeaving + 1, map[string]int{"greedy": MaxLeaving}},
		{"small", 10, map[string]int{"greedy": MaxLeaving - 10, "small": 10}},
		{"greedy", 2 * MaxLeaving, map[string]int{"greedy": MaxLeaving - 10, "small": 10}},
		{"large", MaxLeaving, map[string]int{"greedy": (MaxLeaving - 10) / 2, "large": (MaxLeaving - 10) / 2, "small": 10}},
	} {
		l.Leave(crowd(step.of, step.n))
		if got := have(l); !maps.Equal(got, step.want) {
			t.Errorf("after %d of %s: %v, want %v", step.n, step.of, got, step.want)
		}
		if err := l.Missed(); err == nil || !strings.Contains(err.Error(), "most of them of the namespace ") {
			t.Errorf("it says %v", err)
		}
	}
}

// Who was ended as far as that goes takes no room of those that are not yet.
func TestLeaving_WhoWasToldMakesRoom(t *testing.T) {
	crowd := func(of string, n int) map[string]time.Duration {
		all := map[string]time.Duration{}
		for i := range n {
			all[fmt.Sprintf("a.%s/%d", of, i)] = time.Nanosecond
		}
		return all
	}
	l := NewLeaving(filepath.Join(t.TempDir(), "leaving.json"))
	l.Leave(crowd("old", MaxLeaving))
	l.Told(l.Names())
	l.Leave(crowd("new", 10))
	untold, told := l.Untold(l.Late(0))
	if len(untold) != 10 || len(told) != MaxLeaving-10 {
		t.Errorf("%d are not told, %d are", len(untold), len(told))
	}
}

// Very short names are not all read before it is seen that they are too many.
func TestLeaving_TooManyAreNotReadToTheEnd(t *testing.T) {
	data := []byte("{")
	for i := range 2 * MaxLeaving {
		data = fmt.Appendf(data, "%q:{},", strconv.Itoa(i))
	}
	var all leavers
	if err := all.UnmarshalJSON(data); !errors.Is(err, errTooMany) || len(all) > MaxLeaving+1 {
		t.Errorf("%d are read, %v", len(all), err)
	}
}

// What two processes know together is bounded, too: else nobody would believe the file.
func TestLeaving_TwoProcessesFillOneRoom(t *testing.T) {
	crowd := func(of string) map[string]time.Duration {
		all := map[string]time.Duration{}
		for i := range MaxLeaving {
			all[fmt.Sprintf("%s.web/%d", of, i)] = time.Nanosecond
		}
		return all
	}
	path := filepath.Join(t.TempDir(), "leaving.json")
	l := NewLeaving(path)
	if err := os.Mkdir(path, 0o700); err != nil { // it cannot be written
		t.Fatal(err)
	}
	l.Leave(crowd("a"))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	NewLeaving(path).Leave(crowd("b"))
	if err := l.Kept(); err != nil {
		t.Error(err)
	}
	if n := len(NewLeaving(path).Late(0)); n != MaxLeaving {
		t.Errorf("another process knows %d", n)
	}
}

// Too many that leave still are the same ones each time: else the file would be written with each look.
func TestLeaving_OnlyWithoutRoomKeepsTheSame(t *testing.T) {
	all := map[string]time.Duration{"small.web/1": time.Hour}
	for i := range MaxLeaving + 7 {
		all[fmt.Sprintf("greedy.web/%d", i)] = time.Hour
	}
	l := NewLeaving(filepath.Join(t.TempDir(), "leaving.json"))
	l.Only(all)
	before, file := l.all, l.file
	l.Only(all)
	if len(before) != MaxLeaving || !maps.Equal(l.all, before) || !os.SameFile(file, l.file) {
		t.Errorf("%d of %d leave, the file is another: %v", len(l.all), len(before), !os.SameFile(file, l.file))
	}
}

// Times are the machine's since it started: what was written before has no connections any more, and
// no clock that is set makes anybody late.
func TestLeaving_EndsWithTheMachine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leaving.json")
	NewLeaving(path).Leave(map[string]time.Duration{"a": time.Nanosecond})
	id, _ := boot() // without it there is no file
	data, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(data), time.Now().Format("2006-01")) || !strings.Contains(string(data), id) {
		t.Errorf("%s, %v", data, err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(data), id, "another", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	l := NewLeaving(path)
	if got := l.Late(0); len(got) > 0 || l.Missed() != nil {
		t.Errorf("%q are late; %v", got, l.Missed())
	}
}

// Whoever ends connections has the file alone, and knows whether it has read it.
func TestLeaving_WhoIsOverIsMarked(t *testing.T) {
	l := NewLeaving(filepath.Join(t.TempDir(), "leaving.json"))
	root := NewLeaving(l.path)
	if _, err := root.Marked(); err == nil {
		t.Error("nobody has written who is over")
	}
	l.Leave(map[string]time.Duration{"a": 1, "b": 1, "none of its own": 0})
	for _, names := range []map[string]bool{{"a": true, "none of its own": true}, {"b": true}} {
		if n := l.Mark(names); n != 1 {
			t.Errorf("%d are marked", n)
		}
		got, err := root.Marked()
		if delete(names, "none of its own"); !maps.Equal(got, names) || err != nil {
			t.Errorf("marked are %v, want %v; %v", got, names, err)
		}
	}
	if err := os.WriteFile(l.path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Marked(); err == nil {
		t.Error("what cannot be read marks nobody")
	}
	again := NewLeaving(l.path)
	if err := again.Missed(); err == nil || !strings.Contains(err.Error(), "not all that left are known") {
		t.Errorf("one that begins says %v", err)
	}
}
