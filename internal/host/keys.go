package host

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
)

// publicKey is a key that may deliver.
type publicKey struct {
	algorithm, blob string
	comment         string
}

// parsePublicKey reads "ssh-ed25519 AAAA… comment". Options are the installer's to
// choose, and refused.
func parsePublicKey(line string) (publicKey, error) {
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return publicKey{}, fmt.Errorf("%.40q is not a public key", line)
	}
	k := publicKey{algorithm: fields[0], blob: fields[1], comment: strings.Map(printable, strings.Join(fields[2:], " "))}
	raw, err := base64.StdEncoding.DecodeString(k.blob)
	if err != nil || len(raw) < 4 {
		return publicKey{}, fmt.Errorf("%.40q is not a public key", line)
	}
	n := int(binary.BigEndian.Uint32(raw))
	if n > len(raw)-4 || string(raw[4:4+n]) != k.algorithm || !engine.PlainPath(strings.ReplaceAll(k.algorithm, "@", "")) {
		return publicKey{}, fmt.Errorf("%.40q is not a public key", line)
	}
	return k, nil
}

// readKeys reads keys, and files of keys.
func readKeys(given []string) ([]publicKey, error) {
	var keys []publicKey
	for _, text := range given {
		if k, err := parsePublicKey(text); err == nil {
			keys = append(keys, k)
			continue
		}
		data, err := os.ReadFile(text)
		if err != nil {
			return nil, fmt.Errorf("%.80q is neither a public key nor a file of them: %w", text, err)
		}
		found := 0
		for line := range strings.Lines(string(data)) {
			if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			k, err := parsePublicKey(line)
			if err != nil {
				return nil, fmt.Errorf("%s: %w (is it the private one? The public one ends in .pub)", text, err)
			}
			keys = append(keys, k)
			found++
		}
		if found == 0 {
			return nil, errors.New(text + " holds no public key")
		}
	}
	return keys, nil
}

// line of authorized_keys: the key can do nothing but deliver.
func (k publicKey) line(command string) string {
	return strings.TrimSpace(serves(command) + k.algorithm + " " + k.blob + " " + k.comment)
}

// serves begins a line that lets a key run this program at a path.
func serves(command string) string { return fmt.Sprintf(`restrict,command="%s host serve" `, command) }

// follow lets keys run the program where it is now: a package has brought it to a machine
// where it had been copied by hand, say.
func follow(have, command string) string {
	var lines strings.Builder
	for line := range strings.Lines(have) {
		for _, place := range []string{installed, packaged} {
			if key, ours := strings.CutPrefix(line, serves(place)); ours {
				line = serves(command) + key
				break
			}
		}
		lines.WriteString(line)
	}
	return lines.String()
}

// authorize adds keys to the lines of authorized_keys. A key that is there with
// other options is given these.
func authorize(have string, keys []publicKey, command string) string {
	var lines []string
	done := map[string]bool{}
	for line := range strings.Lines(have) {
		line = strings.TrimRight(line, "\n")
		if k, ok := keyIn(line, keys); !ok {
			lines = append(lines, line)
		} else if !done[k.blob] {
			done[k.blob] = true
			lines = append(lines, k.line(command))
		}
	}
	for _, k := range keys {
		if !done[k.blob] {
			done[k.blob] = true
			lines = append(lines, k.line(command))
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

func keyIn(line string, keys []publicKey) (publicKey, bool) {
	for _, k := range keys {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") && slices.Contains(strings.Fields(line), k.blob) {
			return k, true
		}
	}
	return publicKey{}, false
}
