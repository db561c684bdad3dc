package deliver

import (
	"bytes"
	"crypto/rand"
	"errors"
	"net"
	"strings"
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

// FuzzPrivateKey: a key of a Secret is one that signs, or it is said what is wrong with it, and nothing of what it is.
func FuzzPrivateKey(f *testing.F) {
	private, _ := newKey(f)
	f.Add(private)
	f.Add([]byte("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----\n"))
	f.Add([]byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		signer, err := privateKey(text)
		if err != nil {
			e, ours := errors.AsType[*Error](err)
			if !ours || e.Reason != ReasonSecret || len(e.Message) > 500 {
				t.Errorf("%v", err)
			}
			for line := range bytes.Lines(text) {
				if len(line) > 32 && strings.Contains(err.Error(), string(bytes.TrimSpace(line))) {
					t.Errorf("it tells the key: %v", err)
				}
			}
			return
		}
		sig, err := signer.Sign(rand.Reader, text)
		if err == nil {
			err = signer.PublicKey().Verify(text, sig)
		}
		if err != nil {
			t.Errorf("a %s that does not sign: %v", signer.PublicKey().Type(), err)
		}
	})
}
