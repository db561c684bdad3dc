package host

import (
	"maps"
	"os/exec"
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

// Who may not look into a process is still told of which service a socket is.
func TestServicesOfSockets(t *testing.T) {
	got := parseServices(`tcp   LISTEN 0      128          0.0.0.0:22        0.0.0.0:*    ino:7093 sk:1 cgroup:/system.slice/ssh.service <->
udp   UNCONN 0      0      127.0.0.53%lo:53        0.0.0.0:*    uid:101 ino:512 sk:2 cgroup:/system.slice/systemd-resolved.service <->
tcp   LISTEN 0      4096         0.0.0.0:9100      0.0.0.0:*    uid:103 ino:99 sk:3 cgroup:/user.slice/user-1000.slice/user@1000.service/app.slice <->
tcp   LISTEN 0      4096         0.0.0.0:80        0.0.0.0:*    ino:77 sk:4 cgroup:/init.scope <->
tcp   LISTEN 0      4096               *:81              *:*    ino:78 sk:5 cgroup:unreachable:1f v6only:0 <->
`)
	want := map[string]string{"7093": "ssh", "512": "systemd-resolved", "99": "user@1000"}
	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// ss itself knows what it is asked here.
func TestServicesAreAskedFor(t *testing.T) {
	at := local(t)
	taken(t, at.String())
	out, err := exec.Command("ss", "-Hlntu", "--extended", "--cgroup").CombinedOutput()
	if err != nil || !strings.Contains(string(out), at.String()) || !strings.Contains(string(out), "ino:") {
		t.Errorf("%v: %s", err, out)
	}
}
