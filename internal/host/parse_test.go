package host

import (
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

// Lines that are others' are kept as they are, whatever program they run.
func TestFollow(t *testing.T) {
	const others = "# mine\nfrom=\"192.0.2.0/24\" " + otherKey + "\nrestrict,command=\"/opt/x host serve\" " + otherKey + "\n"
	was := others + `restrict,command="` + installed + ` host serve" ` + aKey
	want := others + `restrict,command="` + packaged + ` host serve" ` + aKey
	for _, have := range []string{was, want} {
		if diff := cmp.Diff(want, follow(have, packaged)); diff != "" {
			t.Error(diff)
		}
	}
}
