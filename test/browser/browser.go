// Package browser drives Debian's Chromium by WebDriver, the protocol of the W3C, which is
// HTTP with JSON: so tests of a page need no library that follows Chromium's versions.
package browser

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"github.com/external-lb/external-lb/test/wait"
)

// Keys that Press takes beside characters.
const (
	Tab    = "\ue004"
	Enter  = "\ue007"
	Escape = "\ue00c"
)

// Browser is a window of Chromium.
type Browser struct {
	t       testing.TB
	session string // URL
}

var started = regexp.MustCompile(`started successfully on port (\d+)`)

// Open a window, until the test ends.
func Open(t testing.TB) *Browser {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	driver := exec.CommandContext(ctx, "chromedriver", "--port=0")
	driver.Env = append(os.Environ(), "HOME="+t.TempDir())
	driver.Cancel = func() error { return driver.Process.Signal(os.Interrupt) }
	driver.WaitDelay = 10 * time.Second
	out, err := driver.StdoutPipe()
	if err == nil {
		err = driver.Start()
	}
	if err != nil {
		cancel()
		t.Fatalf("chromedriver: %v; make deps installs it", err)
	}
	t.Cleanup(func() {
		cancel()
		_ = driver.Wait() // it was told to end
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := started.FindStringSubmatch(lines.Text()); m != nil {
			go func() { // else it stops when the pipe is full
				for lines.Scan() {
				}
			}()
			return open(t, "http://127.0.0.1:"+m[1])
		}
	}
	t.Fatal("chromedriver ended")
	return nil
}

func open(t testing.TB, driver string) *Browser {
	t.Helper()
	b := &Browser{t: t, session: driver}
	// Without a sandbox, since tests run as root; what is shown is our own.
	options := map[string]any{"args": []string{
		"--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1280,1000",
	}}
	var session struct{ SessionID string }
	b.must("POST", "/session", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": map[string]string{"browser": "ALL"},
	}}}, &session)
	b.session += "/session/" + session.SessionID
	t.Cleanup(func() {
		if err := b.ask("DELETE", "", nil, nil); err != nil {
			t.Error(err)
		}
	})
	return b
}

// ask the driver; answer may be nil.
func (b *Browser) ask(method, path string, body, answer any) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.t.Context()), time.Minute) // also at the test's end
	defer cancel()
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, b.session+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var envelope struct{ Value json.RawMessage }
	if err := json.NewDecoder(response.Body).Decode(&envelope); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %.500s", method, path, envelope.Value)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(envelope.Value, answer)
}

func (b *Browser) must(method, path string, body, answer any) {
	b.t.Helper()
	if err := b.ask(method, path, body, answer); err != nil {
		b.t.Fatal(err)
	}
}

// Go to an address.
func (b *Browser) Go(url string) {
	b.t.Helper()
	b.must("POST", "/url", map[string]any{"url": url}, nil)
}

// Run a script's function body, whose result is decoded into answer, if that is not nil.
func (b *Browser) Run(script string, answer any) {
	b.t.Helper()
	b.must("POST", "/execute/sync", map[string]any{"script": script, "args": []any{}}, answer)
}

// Until waits for a script's function body to return true. Else it returns what it saw.
func (b *Browser) Until(script string) {
	b.t.Helper()
	wait.For(b.t, func(context.Context) error {
		var answer any
		if err := b.ask("POST", "/execute/sync", map[string]any{"script": script, "args": []any{}}, &answer); err != nil {
			return err
		}
		if answer != true {
			return fmt.Errorf("%s: %v", script, answer)
		}
		return nil
	})
}

// Press keys, one after the other, wherever the focus is.
func (b *Browser) Press(keys string) {
	b.t.Helper()
	var actions []map[string]string
	for _, key := range keys {
		for _, kind := range []string{"keyDown", "keyUp"} {
			actions = append(actions, map[string]string{"type": kind, "value": string(key)})
		}
	}
	b.must("POST", "/actions", map[string]any{"actions": []any{map[string]any{"type": "key", "id": "keyboard", "actions": actions}}}, nil)
}

// Heard is what a screen reader says of an element: its role and its name.
func (b *Browser) Heard(selector string) string {
	b.t.Helper()
	var element map[string]string
	b.must("POST", "/element", map[string]any{"using": "css selector", "value": selector}, &element)
	var role, label string
	for _, id := range element {
		b.must("GET", "/element/"+id+"/computedrole", nil, &role)
		b.must("GET", "/element/"+id+"/computedlabel", nil, &label)
	}
	return role + " " + label
}

// Dark asks the page for its dark colours, or for the others.
func (b *Browser) Dark(dark bool) {
	b.t.Helper()
	value := map[bool]string{true: "dark", false: "light"}[dark]
	b.must("POST", "/goog/cdp/execute", map[string]any{"cmd": "Emulation.setEmulatedMedia", "params": map[string]any{
		"features": []any{map[string]string{"name": "prefers-color-scheme", "value": value}},
	}}, nil)
}

// Picture of the window, as PNG.
func (b *Browser) Picture() []byte {
	b.t.Helper()
	var text string
	b.must("GET", "/screenshot", nil, &text)
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		b.t.Fatal(err)
	}
	return data
}

// Complaints are what the browser says of the page: errors, and what its policy forbids.
func (b *Browser) Complaints() error {
	b.t.Helper()
	var entries []struct{ Level, Message string }
	b.must("POST", "/se/log", map[string]any{"type": "browser"}, &entries)
	var all []error
	for _, e := range entries {
		if e.Level == "SEVERE" || e.Level == "WARNING" {
			all = append(all, errors.New(e.Message))
		}
	}
	return errors.Join(all...)
}
