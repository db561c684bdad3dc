package host

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParsePublicKey(t *testing.T) {
	for _, bad := range []string{
		"", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-rsa " + strings.Fields(aKey)[1],
		`command="sh" ` + aKey, "-----BEGIN OPENSSH PRIVATE KEY-----", "ssh-ed25519 not-base64 x",
	} {
		if k, err := parsePublicKey(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, k)
		}
	}
	k, err := parsePublicKey(aKey + "\x1b[0m\n")
	if err != nil || k.comment != "me@here[0m" {
		t.Errorf("%+v, %v", k, err)
	}
}

func TestAuthorizeReplacesOtherOptionsAndKeepsOtherLines(t *testing.T) {
	k, err := parsePublicKey(aKey)
	if err != nil {
		t.Fatal(err)
	}
	have := "# mine\n" + aKey + "\nfrom=\"192.0.2.0/24\" " + otherKey + "\n" + aKey + "\n"
	want := "# mine\n" + `restrict,command="/x host serve" ` + aKey + "\nfrom=\"192.0.2.0/24\" " + otherKey + "\n"
	got := authorize(have, []publicKey{k, k}, "/x")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if again := authorize(got, []publicKey{k}, "/x"); again != got {
		t.Errorf("again: %s", again)
	}
}

func TestReadOwnersConf(t *testing.T) {
	dump := "# configuration file /etc/nginx/nginx.conf:\n" +
		"include m/*.conf; # stream {\nerror_log  /var/log/x.log notice;\nhttp { server { return 200 \"stream { ${x} }\"; } set $a '{'; }\n" +
		"# configuration file /etc/nginx/m/a.conf:\nload_module \"modules/ngx_stream_module.so\";\nload_module modules/ngx_http_x.so;\n" +
		"# configuration file /etc/nginx/m/b.conf:\nstream {\n"
	got := readOwnersConf(dump, "/etc/nginx/nginx.conf")
	if !slices.Equal(got.modules, []string{"load_module modules/ngx_stream_module.so;\n"}) || got.errorLog != "/var/log/x.log" ||
		!slices.Equal(got.dirs, []string{"m/*.conf"}) || got.stream == nil || *got.stream != (place{"/etc/nginx/m/b.conf", 8}) || len(got.included) != 3 {
		t.Errorf("%+v %+v", got, fmt.Sprint(got.stream))
	}
}
