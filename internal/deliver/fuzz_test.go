package deliver

import (
	"errors"
	"net"
	"testing"
)

// FuzzKnownHosts: known_hosts of a Secret. A host that it does not name is not trusted.
func FuzzKnownHosts(f *testing.F) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJl3dIeudNqd0DPMRD6OIh65tjVHR3j1cjEsUgj9Hj7c"
	f.Add([]byte("192.0.2.5 " + key + "\n[lb1.example]:2222 " + key))
	f.Add([]byte("@cert-authority *.example " + key + "\n@revoked * " + key))
	f.Add([]byte("|1|JfKTdBh7rNbXkVAQCRp4OQoPfmI=|USECr3SWf1JUPsms5AqfD5QfxkM= " + key))
	f.Fuzz(func(t *testing.T, text []byte) {
		check, err := readKnownHosts(text)
		if err != nil {
			if _, ours := errors.AsType[*Error](err); !ours {
				t.Errorf("the error has no reason: %v", err)
			}
			return
		}
		if check("192.0.2.5:22", &net.TCPAddr{}, noKey{}) == nil {
			t.Error("a key of no kind is trusted")
		}
		_ = algorithms("192.0.2.5:22", text, check)
	})
}
