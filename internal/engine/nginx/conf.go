package nginx

import (
	"regexp"
	"strings"
)

// confFile is a file of nginx's configuration, as `nginx -T` prints it.
type confFile struct {
	path, text string
}

var confHeader = regexp.MustCompile(`(?m)^# configuration file (/.*):$`)

// parseDump splits the output of `nginx -T`.
func parseDump(dump string) []confFile {
	var files []confFile
	headers := confHeader.FindAllStringSubmatchIndex(dump, -1)
	for i, h := range headers {
		end := len(dump)
		if i+1 < len(headers) {
			end = headers[i+1][0]
		}
		files = append(files, confFile{dump[h[2]:h[3]], strings.TrimPrefix(dump[h[1]:end], "\n")})
	}
	return files
}

// directive of the outermost level of a file.
type directive struct {
	words []string
	block int // offset behind its brace; 0 if it has none
}

// topLevel lists the directives of the outermost level, up to the brace that closes it.
func topLevel(text string) []directive {
	var all []directive
	var words []string
	depth := 0
	for i := 0; i < len(text); {
		word, quoted, end := nextWord(text, i)
		switch {
		case end == i:
			return all
		case quoted:
			words = append(words, word)
		case word == ";":
			if depth == 0 && len(words) > 0 {
				all = append(all, directive{words: words})
			}
			words = nil
		case word == "{":
			if depth == 0 && len(words) > 0 {
				all = append(all, directive{words, end})
			}
			words = nil
			depth++
		case word == "}" && depth == 0:
			return all
		case word == "}":
			words = nil
			depth--
		default:
			words = append(words, word)
		}
		i = end
	}
	return all
}

// nextWord reads one word, quoted or not, or one of ; { }. At the end of the
// text, end is i.
func nextWord(text string, i int) (word string, quoted bool, end int) {
	start := i
	for i < len(text) && (strings.IndexByte(" \t\r\n", text[i]) >= 0 || text[i] == '#') {
		if text[i] == '#' {
			for i < len(text) && text[i] != '\n' {
				i++
			}
			continue
		}
		i++
	}
	if i == len(text) {
		return "", false, start
	}
	switch c := text[i]; c {
	case ';', '{', '}':
		return string(c), false, i + 1
	case '"', '\'':
		for j := i + 1; j < len(text); j++ {
			if text[j] == '\\' {
				j++
			} else if text[j] == c {
				return text[i+1 : j], true, j + 1
			}
		}
		return text[i+1:], true, len(text)
	}
	j := i
	for j < len(text) && strings.IndexByte(" \t\r\n;{", text[j]) < 0 {
		switch {
		case text[j] == '\\' && j+1 < len(text):
			j += 2
		case text[j] == '$' && j+1 < len(text) && text[j+1] == '{':
			j += 2
		default:
			j++
		}
	}
	return text[i:j], false, j
}

// ownersConf is what matters of a machine's nginx configuration.
type ownersConf struct {
	included map[string]bool // files that are read
	modules  []string        // load_module lines for stream
	stream   string          // the file with the owner's stream block; "": there is none
	http     string          // the file with the owner's http block; "": there is none
	errorLog string
	pidFile  string // "": as nginx was built

	workers            int
	connections, files stated   // of each worker
	dirs               []string // patterns that the main file includes at its outermost level
	httpDirs           []string // patterns that the http block includes
}

func readOwnersConf(dump, mainPath string) ownersConf {
	all := parseDump(dump)
	conf := ownersConf{included: map[string]bool{}, workers: workersIn(all), connections: state(all, setting), files: state(all, filesSetting)}
	for _, f := range all {
		conf.included[f.path] = true
		for _, d := range topLevel(f.text) {
			switch {
			case d.words[0] == "stream" && d.block > 0:
				conf.stream = f.path
			case d.words[0] == "http" && d.block > 0:
				conf.http = f.path
				for _, inner := range topLevel(f.text[d.block:]) {
					if inner.words[0] == "include" && len(inner.words) == 2 {
						conf.httpDirs = append(conf.httpDirs, inner.words[1])
					}
				}
			case len(d.words) < 2:
			case d.words[0] == "load_module" && strings.Contains(d.words[1], "ngx_stream"):
				conf.modules = append(conf.modules, "load_module "+d.words[1]+";\n")
			case f.path == mainPath && d.words[0] == "error_log":
				conf.errorLog = d.words[1]
			case d.words[0] == "pid":
				conf.pidFile = d.words[1]
			case f.path == mainPath && d.words[0] == "include":
				conf.dirs = append(conf.dirs, d.words[1])
			}
		}
	}
	return conf
}

// within puts a line at the beginning of a block of the outermost level.
func within(text, block, line string) string {
	for _, d := range topLevel(text) {
		if d.words[0] == block && d.block > 0 {
			return text[:d.block] + "\n    " + line + text[d.block:]
		}
	}
	return text
}
