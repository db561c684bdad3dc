package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// A program is recorded in a terminal of our size, in colours, until it ends.
func TestRecord(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	var watched strings.Builder
	script := `test -t 0 && test -t 1 && test -t 2 && test -z "$NO_COLOR" && stty size && printf '\033[1m✓ bold\033[0m\n'`
	r, err := record(t.Context(), "a title", []string{"sh", "-c", script}, &watched)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "a.cast")
	if err := r.write(file); err != nil {
		t.Fatal(err)
	}
	if r, err = read(file); err != nil {
		t.Fatal(err)
	}
	rows, err := r.rows(columns)
	if err != nil {
		t.Fatal(err)
	}
	if r.Version != 2 || r.Title != "a title" || time.Since(time.Unix(r.Timestamp, 0)) > time.Hour {
		t.Errorf("%+v", r.header)
	}
	if len(rows) != 2 || rows[0].text() != "30 120" || !reflect.DeepEqual(rows[1].spans, []span{{"b", "✓ bold"}}) {
		t.Errorf("%+v", rows)
	}
	if !strings.Contains(watched.String(), "✓ bold") {
		t.Errorf("who watched saw %q", &watched)
	}
}

func TestRecord_WhatFailsLeavesTheOneBefore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.cast")
	if err := os.WriteFile(file, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), file, "", []string{"sh", "-c", "echo half; exit 3"}); err == nil {
		t.Error("nobody was told")
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "before" {
		t.Errorf("%q, %v", data, err)
	}
}

// A character that comes in two parts is one.
func TestListen_CutsNoCharacter(t *testing.T) {
	from, to := io.Pipe()
	go func() {
		for _, part := range []string{"a\xe2", "\x9c", "\x93b"} {
			_, _ = to.Write([]byte(part)) // it is read, or the test fails
		}
		_ = to.Close()
	}()
	r := &recording{}
	if err := r.listen(from, time.Now()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range r.events {
		got = append(got, e.text)
	}
	if !reflect.DeepEqual(got, []string{"a", "✓b"}) {
		t.Errorf("%q", got)
	}
}

func events(parts ...string) *recording {
	r := &recording{}
	for i, part := range parts {
		r.events = append(r.events, event{time.Duration(i) * time.Second, part})
	}
	return r
}

func TestRows(t *testing.T) {
	for name, test := range map[string]struct {
		parts []string
		want  []row
	}{
		"rows":                 {[]string{"a\r\n\r\nb\r\n"}, []row{{0, []span{{"", "a"}}}, {0, nil}, {0, []span{{"", "b"}}}}},
		"a row that goes on":   {[]string{"a", "b\r\n", "c"}, []row{{0, []span{{"", "a"}, {"", "b"}}}, {2 * time.Second, []span{{"", "c"}}}}},
		"a style over the end": {[]string{"\x1b[2ma\n\x1b[0mb"}, []row{{0, []span{{"d", "a"}}}, {0, []span{{"", "b"}}}}},
		"a style in two parts": {[]string{"\x1b[3", "2ma"}, []row{{time.Second, []span{{"g", "a"}}}}},
		"an end in two parts":  {[]string{"a\r", "\nb"}, []row{{0, []span{{"", "a"}}}, {time.Second, []span{{"", "b"}}}}},
		"a tab":                {[]string{"a\tb"}, []row{{0, []span{{"", "a"}, {"", "       "}}}, {0, []span{{"", "b"}}}}},
		"a row that is full":   {[]string{"12345678✓\r\n"}, []row{{0, []span{{"", "12345678"}}}, {0, []span{{"", "✓"}}}}},
		"a row just full":      {[]string{"12345678\r\na"}, []row{{0, []span{{"", "12345678"}}}, {0, []span{{"", "a"}}}}},
	} {
		got, err := events(test.parts...).rows(8)
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

// What a terminal would do and we do not is no picture, instead of a wrong one.
func TestRows_RefuseWhatMovesBack(t *testing.T) {
	for _, text := range []string{"50 %\r60 %", "\x1b[2J", "\x1b[A", "\x1b[35m", "\x1bc", "\a", "a\x1b[3"} {
		if rows, err := events(text).rows(8); err == nil {
			t.Errorf("%q: %v", text, rows)
		}
	}
}

func TestPace(t *testing.T) {
	one := []span{{"", "a"}}
	rows := []row{{5 * time.Minute, one}, {5 * time.Minute, one}, {time.Hour, one}, {time.Hour, nil}, {time.Hour + time.Second, one}}
	shown, all := pace(rows)
	want := []time.Duration{0, shortest, shortest + longest, shortest + longest + ofAnAct, shortest + longest + ofAnAct + time.Second}
	if !reflect.DeepEqual(shown, want) || all != want[4]+atTheEnd {
		t.Errorf("%v, %v; want %v", shown, all, want)
	}
}

// The picture that the README shows is drawn from the recording beside it, is well-formed, and
// small; it runs nothing and loads nothing.
func TestThePicture(t *testing.T) {
	const images = "../../docs/images/"
	file := filepath.Join(t.TempDir(), "demo.svg")
	if err := picture(images+"demo.cast", file, beginning); err != nil {
		t.Fatal(err)
	}
	drawn, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(images + "demo.svg")
	if err != nil {
		t.Fatal(err)
	}
	if string(drawn) != string(kept) {
		t.Error("demo.svg is not what is drawn of demo.cast; draw it anew: go run . -cast " + images + "demo.cast -svg " + images + "demo.svg")
	}
	if len(kept) > 100_000 {
		t.Errorf("it has %d bytes", len(kept))
	}
	if !strings.Contains(string(kept), "prefers-reduced-motion") {
		t.Error("it moves for who wants no motion, too")
	}
	for decoder := xml.NewDecoder(strings.NewReader(string(kept))); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if name := start.Name.Local; name == "script" || name == "foreignObject" || name == "image" {
			t.Errorf("it has a %s", name)
		}
		for _, a := range start.Attr {
			if a.Name.Local == "href" || strings.HasPrefix(a.Name.Local, "on") {
				t.Errorf("%s has %s=%q", start.Name.Local, a.Name.Local, a.Value)
			}
		}
	}
}

// The recording is a whole run: it ends well.
func TestTheRecording(t *testing.T) {
	r, err := read("../../docs/images/demo.cast")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := r.rows(columns)
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, row := range rows {
		text += row.text() + "\n"
	}
	for _, want := range []string{
		"proved to be live on the balancer before it was published", "requests meanwhile, 0 failed",
		"answered again after", "Everything above was seen to work",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q", want)
		}
	}
}
