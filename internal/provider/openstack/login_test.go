package openstack

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/provider"
)

// keystone is a double of it over TLS, with Octavias in two regions, each of which has a public and an internal endpoint
// and answers to who bears the token. It lets one application credential in, and one user.
func keystone(t *testing.T) (url, ca string, asked *string) {
	t.Helper()
	asked = new(string)
	mux := http.NewServeMux()
	server := httptest.NewUnstartedServer(mux)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // clients without the CA
	server.StartTLS()
	t.Cleanup(server.Close)
	mux.HandleFunc("POST /v3/auth/tokens", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		quoted := asJSON(t, password)
		credential := strings.Contains(string(body), `"application_credential":{"id":"an-id","secret":"s3cret"}`)
		user := strings.Contains(string(body), `"user":{"domain":{"name":"ours"},"name":"u","password":`+quoted+`}`) &&
			strings.Contains(string(body), `"scope":{"project":{"domain":{"name":"theirs"},"name":"p"}}`)
		if !credential && !user {
			http.Error(w, "{}", http.StatusUnauthorized)
			return
		}
		var endpoints []map[string]string
		for _, region := range []string{"north", "south"} {
			for _, side := range []string{"public", "internal"} {
				endpoints = append(endpoints, map[string]string{"interface": side, "region": region, "region_id": region, "url": server.URL + "/" + region + "/" + side})
			}
		}
		w.Header().Set("X-Subject-Token", "a token")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]any{"token": map[string]any{"expires_at": "2126-01-01T00:00:00.000000Z",
			"catalog": []any{map[string]any{"type": "load-balancer", "name": "octavia", "endpoints": endpoints}}}})
	})
	mux.HandleFunc("GET /{region}/{side}/v2.0/lbaas/loadbalancers", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		*asked = r.PathValue("region") + " " + r.PathValue("side") + " " + r.Header.Get("X-Auth-Token")
		_, _ = io.WriteString(w, `{"loadbalancers": []}`)
	})
	mux.HandleFunc("GET /{region}/{side}/{$}", func(w http.ResponseWriter, r *http.Request) {
		links := []any{map[string]string{"rel": "self", "href": server.URL + r.URL.Path + "v2"}}
		_ = json.NewEncoder(w).Encode(map[string]any{"versions": []any{map[string]any{"id": "v2.26", "status": "CURRENT", "links": links}}})
	})
	ca = filepath.Join(t.TempDir(), "ca.crt")
	write(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	return server.URL + "/v3", ca, asked
}

// password has what has to be quoted on the way.
const password = `s3cret '"&<#: é\`

func asJSON(t *testing.T, v any) string {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Error(err)
	}
	return string(out)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

const cloudsYAML = `clouds:
  shop:
    region_name: north
    interface: internal
    cacert: %s
    auth:
      auth_url: %s
      application_credential_id: an-id
      application_credential_secret: s3cret
`

// The environment says who logs in where, whose certificate is trusted, and which endpoint is asked, with a clouds.yaml
// and without one.
func TestLogin_IsThatOfOpenStacksCommands(t *testing.T) {
	url, ca, asked := keystone(t)
	file := filepath.Join(t.TempDir(), "clouds.yaml")
	write(t, file, fmt.Sprintf(cloudsYAML, ca, url))
	credential := map[string]string{"OS_AUTH_URL": url, "OS_APPLICATION_CREDENTIAL_ID": "an-id", "OS_APPLICATION_CREDENTIAL_SECRET": "s3cret", "OS_CACERT": ca, "OS_REGION_NAME": "south"}
	user := map[string]string{"OS_AUTH_URL": url, "OS_USERNAME": "u", "OS_PASSWORD": password, "OS_PROJECT_NAME": "p", "OS_PROJECT_DOMAIN_NAME": "theirs", "OS_USER_DOMAIN_NAME": "ours", "OS_CACERT": ca, "OS_REGION_NAME": "south"}
	shop := map[string]string{"OS_CLOUD": "shop", "OS_CLIENT_CONFIG_FILE": file}
	for what, c := range map[string]struct {
		env, more map[string]string
		asked     string // "": it does not log in
	}{
		"a credential":                {credential, nil, "south public a token"},
		"a user":                      {user, nil, "south public a token"},
		"the internal endpoint":       {credential, map[string]string{"OS_INTERFACE": "internal"}, "south internal a token"},
		"a cloud":                     {shop, nil, "north internal a token"},
		"a cloud, in another region":  {shop, map[string]string{"OS_REGION_NAME": "south"}, "south internal a token"},
		"a cloud that is not there":   {shop, map[string]string{"OS_CLOUD": "other"}, ""},
		"a region that is not there":  {credential, map[string]string{"OS_REGION_NAME": "west"}, ""},
		"without the CA":              {credential, map[string]string{"OS_CACERT": ""}, ""},
		"another secret":              {credential, map[string]string{"OS_APPLICATION_CREDENTIAL_SECRET": "x"}, ""},
		"nothing":                     {nil, nil, ""},
		"a CA that cannot be read":    {credential, map[string]string{"OS_CACERT": ca + "x"}, ""},
		"a cloud, and no credentials": {shop, map[string]string{"OS_CLIENT_CONFIG_FILE": file + "x"}, ""},
	} {
		t.Run(what, func(t *testing.T) {
			for _, of := range os.Environ() {
				if name, _, _ := strings.Cut(of, "="); strings.HasPrefix(name, "OS_") {
					t.Setenv(name, "")
				}
			}
			for _, all := range []map[string]string{c.env, c.more} {
				for name, value := range all {
					t.Setenv(name, value)
				}
			}
			*asked = ""
			api, err := Login(t.Context())
			if err == nil {
				_, err = (&Cloud{API: api}).Get(t.Context(), web)
			}
			if *asked != c.asked || provider.Is(err, provider.NotFound) != (c.asked != "") {
				t.Errorf("asked %q, want %q: %v", *asked, c.asked, err)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("it says the secret: %v", err)
			}
		})
	}
}

// An Octavia that cannot do what will be asked of it is told at the start. One that does not say what it is is tried.
func TestCheckVersion_RefusesAnOldOctavia(t *testing.T) {
	for says, good := range map[string]bool{
		`{"versions": [{"id": "v1", "status": "SUPPORTED"}, {"id": "v2.0", "status": "SUPPORTED"}, {"id": "v2.21", "status": "CURRENT"}]}`:   false,
		`{"versions": [{"id": "v2.9", "status": "SUPPORTED"}, {"id": "v2.22", "status": "SUPPORTED"}, {"id": "v2.3", "status": "CURRENT"}]}`: true,
		`{"versions": [{"id": "v2.0", "status": "CURRENT"}]}`:                                                                                false,
		`{"versions": []}`: true,
		`no JSON`:          true,
	} {
		api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/" {
				t.Errorf("asked for %s", r.URL)
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, says)
		}))
		err := CheckVersion(t.Context(), WithoutCredentials(api.URL, "p"))
		api.Close()
		if (err == nil) != good || err != nil && !strings.Contains(err.Error(), "v2.22 is needed") {
			t.Errorf("%s: %v", says, err)
		}
		if err := CheckVersion(t.Context(), WithoutCredentials(api.URL, "p")); err != nil {
			t.Errorf("away: %v", err)
		}
	}
}
