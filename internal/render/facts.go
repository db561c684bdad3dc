package render

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// fact is something that a file says and that custom templates cannot change:
// where it listens, to whom, and for which nodes. How traffic is carried is theirs.
type fact struct {
	text  string // "listen 192.0.2.1:80"
	exact bool   // it is not said of anything else either
}

// facts are those of a file, with how often it says each.
type facts map[fact]int

// against says what another file lacks of these facts or says beside them, ""
// if nothing.
func (f facts) against(other facts) string {
	missing, added := []string{}, []string{}
	for _, one := range slices.SortedFunc(maps.Keys(f), compareFacts) {
		if other[one] < f[one] {
			missing = append(missing, one.text)
		}
	}
	for _, one := range slices.SortedFunc(maps.Keys(other), compareFacts) {
		if one.exact && other[one] > f[one] {
			added = append(added, one.text)
		}
	}
	switch {
	case len(missing) > 0:
		return fmt.Sprintf("%q is missing", missing[0])
	case len(added) > 0:
		return fmt.Sprintf("%q is not what the Service asks for", added[0])
	}
	return ""
}

func compareFacts(a, b fact) int { return cmp.Compare(a.text, b.text) }

func (f facts) must(words ...string)    { f[fact{strings.Join(words, " "), false}]++ }
func (f facts) exactly(words ...string) { f[fact{strings.Join(words, " "), true}]++ }

var comment = regexp.MustCompile(`(?m)(^|\s)#.*$`)

// nginxFacts reads directives, however they are laid out.
func nginxFacts(file []byte) facts {
	f := facts{}
	text := comment.ReplaceAllString(string(file), "")
	for directive := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(";{}", r) }) {
		words := strings.Fields(directive)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "listen":
			at := words[:2]
			for _, kind := range []string{"ssl", "udp"} {
				if slices.Contains(words, kind) {
					at = append(slices.Clone(at), kind)
				}
			}
			f.exactly(at...)
		case "allow", "set_real_ip_from":
			f.exactly(words[:2]...)
		case "deny", "server", "ssl_certificate", "ssl_certificate_key":
			f.must(words[:2]...)
		case "proxy_pass":
			f.must(words[0])
		}
	}
	return f
}

// haproxyFacts reads lines.
func haproxyFacts(file []byte) facts {
	f := facts{}
	for line := range strings.Lines(comment.ReplaceAllString(string(file), "")) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "bind":
			at := words[:2]
			if i := slices.Index(words, "crt"); slices.Contains(words, "ssl") && i > 0 {
				at = slices.Concat(at, []string{"ssl"}, words[i:min(i+2, len(words))])
			}
			f.exactly(at...)
		case "listen", "backend", "defaults":
			f.must(words[:2]...)
		case "server":
			f.must(words[:min(3, len(words))]...)
		case "acl":
			if words[1] == "sources" {
				f.exactly(words...)
			}
		case "tcp-request":
			haproxyAccess(f, words)
		}
	}
	return f
}

// haproxyAccess notes who is let in: by address, which is the Service's, not by
// number, which is the template's.
func haproxyAccess(f facts, words []string) {
	rest := strings.Join(words[1:], " ")
	switch {
	case words[1] != "connection" && words[1] != "session": // which come first
	case slices.Contains(words, "accept"):
		f.exactly(words...)
	case strings.HasSuffix(rest, " reject"), strings.HasSuffix(rest, " reject unless sources"):
		f.must(words...)
	}
}

// lvsFacts reads lines as the host's end does, to which they matter as they are.
func lvsFacts(file []byte) facts {
	f := facts{}
	for line := range strings.Lines(string(file)) {
		line = strings.TrimRight(line, "\n")
		words := strings.Split(strings.TrimLeft(line, " "), " ")
		switch {
		case strings.HasPrefix(line, "# allow "), strings.HasPrefix(line, "virtual_server "):
			f.exactly(line)
		case words[0] == "protocol" || words[0] == "lvs_method":
			f.exactly(words...)
		case words[0] == "real_server":
			f.must(words...)
		case words[0] == "inhibit_on_failure": // what fails stays in the kernel's table, which is the proof
			f.must(words[0])
		}
	}
	return f
}
