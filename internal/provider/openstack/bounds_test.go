package openstack

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// someone answers at a host.
func someone(t *testing.T, answer http.HandlerFunc) (at *httptest.Server, host string) {
	t.Helper()
	at = httptest.NewServer(answer)
	t.Cleanup(at.Close)
	u, err := url.Parse(at.URL)
	if err != nil {
		t.Fatal(err)
	}
	return at, u.Host
}

// elsewhere is where nobody is to be sent: it counts who comes.
func elsewhere(t *testing.T) (string, *atomic.Int32) {
	var came atomic.Int32
	at, _ := someone(t, func(w http.ResponseWriter, _ *http.Request) {
		came.Add(1)
		w.Header().Set("X-Subject-Token", "a token")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"token": {"expires_at": "2126-01-01T00:00:00.000000Z", "catalog": []}, "loadbalancers": []}`)
	})
	return at.URL, &came
}

// at says by the environment that a Keystone is there.
func at(t *testing.T, keystone string) {
	t.Helper()
	for _, of := range os.Environ() {
		if name, _, _ := strings.Cut(of, "="); strings.HasPrefix(name, "OS_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("OS_AUTH_URL", keystone+"/v3")
	t.Setenv("OS_APPLICATION_CREDENTIAL_ID", "an-id")
	t.Setenv("OS_APPLICATION_CREDENTIAL_SECRET", "s3cret")
}

// Who logs in waits for a while, and then says for whom.
func TestLogin_OfAKeystoneThatSaysNothingEnds(t *testing.T) {
	over := make(chan struct{})
	silent, host := someone(t, func(http.ResponseWriter, *http.Request) { <-over })
	defer close(over)
	at(t, silent.URL)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := login(ctx, 50*time.Millisecond); err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), host) {
		t.Errorf("%v, %v", err, ctx.Err())
	}
}

// An answer that does not end is not read to its end.
func TestCalls_ReadNoMoreThanIsBearable(t *testing.T) {
	var sent atomic.Int64
	for status, most := range map[int]int64{http.StatusCreated: 2 * maxAnswer, http.StatusOK: 2 * maxAnswer, http.StatusForbidden: maxAnswer} {
		endless, host := someone(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			for n, part := 0, []byte(`"`+strings.Repeat("a", 1<<20)); sent.Load() < 8*maxAnswer && r.Context().Err() == nil; part[0] = 'a' {
				var err error
				if n, err = w.Write(part); err != nil {
					return
				}
				sent.Add(int64(n))
			}
		})
		at(t, endless.URL)
		for what, ask := range map[string]func() error{
			"logging in": func() error { _, err := Login(t.Context()); return err },
			"a list": func() error {
				_, err := (&Cloud{API: WithoutCredentials(endless.URL, "p")}).List(t.Context(), "c1")
				return err
			},
		} {
			sent.Store(0)
			err := ask()
			if n := sent.Load(); n > most+8<<20 { // and what is on its way
				t.Errorf("%s, %d: %d bytes were taken", what, status, n)
			}
			if err == nil || !strings.Contains(err.Error(), host) || len(err.Error()) > 1<<20 {
				t.Errorf("%s, %d: %.200v", what, status, err)
			}
		}
	}
}

// Passwords and tokens are for who was asked.
func TestCalls_FollowNoRedirect(t *testing.T) {
	other, came := elsewhere(t)
	for _, status := range []int{http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		away, host := someone(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other+r.URL.Path, status) })
		at(t, away.URL)
		api := WithoutCredentials(away.URL, "p")
		api.ProviderClient.TokenID = "a token"
		_, loggingIn := Login(t.Context())
		_, listing := (&Cloud{API: api}).List(t.Context(), "c1")
		_ = CheckVersion(t.Context(), api)
		for what, err := range map[string]error{"logging in": loggingIn, "a list": listing} {
			if err == nil || !strings.Contains(err.Error(), host) {
				t.Errorf("%s, %d: %v", what, status, err)
			}
		}
	}
	if n := came.Load(); n > 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
}
