package deliver

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// clientConfig reads a target's Secret.
func clientConfig(t Target) (*ssh.ClientConfig, error) {
	signer, err := privateKey(t.PrivateKey)
	if err != nil {
		return nil, err
	}
	check, err := readKnownHosts(t.KnownHosts)
	if err != nil {
		return nil, err
	}
	return &ssh.ClientConfig{
		User: t.user(),
		Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: func(address string, remote net.Addr, key ssh.PublicKey) error {
			return hostKeyError(t, key, check(address, remote, key))
		},
		HostKeyAlgorithms: algorithms(t.Endpoint(), t.KnownHosts, check),
		ClientVersion:     "SSH-2.0-external-lb",
	}, nil
}

func privateKey(pem []byte) (ssh.Signer, error) {
	if len(bytes.TrimSpace(pem)) == 0 {
		return nil, &Error{Reason: ReasonSecret, Message: "the Secret has no ssh-privatekey: put the private key there whose public half is in the host's authorized_keys"}
	}
	signer, err := ssh.ParsePrivateKey(pem)
	if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); locked {
		return nil, &Error{Reason: ReasonSecret, Err: err, Message: "ssh-privatekey of the Secret is protected by a passphrase: use a key without one"}
	}
	if err != nil {
		return nil, &Error{Reason: ReasonSecret, Err: err, Message: fmt.Sprintf("ssh-privatekey of the Secret cannot be read (%v): put a private key in PEM there, as ssh-keygen writes it", err)}
	}
	return signer, nil
}

// readKnownHosts parses known_hosts. Names of hosts are the same in any case of their
// letters, as for ssh itself. The parser reads files only, and there may
// be no disk to write to: hence a pipe.
func readKnownHosts(text []byte) (ssh.HostKeyCallback, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, &Error{Reason: ReasonSecret, Message: "the Secret has no known_hosts: put the host's public keys there, as ssh-keyscan prints them, after comparing them"}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("a pipe for known_hosts: %w", err)
	}
	defer r.Close()
	go func() {
		defer w.Close()
		_, _ = w.Write(lowerHosts(text)) // fails if the parser stops at a bad line, and says so itself
	}()
	file := fmt.Sprintf("/dev/fd/%d", r.Fd())
	check, err := knownhosts.New(file)
	if err != nil {
		return nil, &Error{Reason: ReasonSecret, Err: err, Message: "known_hosts of the Secret cannot be read: " +
			strings.ReplaceAll(err.Error(), file+":", "line ")}
	}
	return func(address string, remote net.Addr, key ssh.PublicKey) error {
		return check(strings.ToLower(address), remote, key)
	}, nil
}

// lowerHosts has the hosts of known_hosts in small letters. What is hashed was so before.
func lowerHosts(text []byte) []byte {
	var out []byte
	for line := range bytes.Lines(text) {
		rest := bytes.TrimLeft(line, " \t")
		if bytes.HasPrefix(rest, []byte("@")) { // a marker, and a space
			rest = bytes.TrimLeft(rest[max(0, bytes.IndexAny(rest, " \t")):], " \t")
		}
		end := max(0, bytes.IndexAny(rest, " \t"))
		hosts := rest[:end]
		before := line[:len(line)-len(rest)]
		if !bytes.HasPrefix(hosts, []byte("|")) {
			hosts = bytes.ToLower(hosts) // what is no UTF-8 gets longer
		}
		out = slices.Concat(out, before, hosts, rest[end:])
	}
	return out
}

// algorithms are those for which known_hosts has a key, so that a host with
// several keys shows one that is known. nil: any, as none is known.
func algorithms(endpoint string, text []byte, check ssh.HostKeyCallback) []string {
	keyErr, ok := errors.AsType[*knownhosts.KeyError](check(endpoint, &net.TCPAddr{}, noKey{}))
	if !ok {
		return nil
	}
	var out []string
	for _, known := range keyErr.Want {
		kinds := []string{known.Key.Type()}
		if known.Key.Type() == ssh.KeyAlgoRSA {
			kinds = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
		}
		for _, kind := range kinds {
			if !slices.Contains(out, kind) {
				out = append(out, kind)
			}
		}
	}
	if len(out) > 0 && bytes.Contains(text, []byte("@cert-authority")) {
		return append(certificates(), out...)
	}
	return out
}

// certificates are the algorithms of host keys that an authority signed.
func certificates() []string {
	var out []string
	for _, a := range ssh.SupportedAlgorithms().HostKeys {
		if strings.Contains(a, "-cert-") {
			out = append(out, a)
		}
	}
	return out
}

// noKey is a public key that no host has.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return nil }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("not a key") }
