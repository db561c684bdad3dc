// Package documents takes a file of manifests apart.
package documents

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// Document is one of several in a file.
type Document struct {
	Line int // of the file, from 1
	Data []byte
}

// Split takes a file apart at its lines of three dashes. JSON values may
// also follow each other.
func Split(data []byte) []Document {
	var out []Document
	begin, beginLine, line := 0, 1, 0
	end := func(at int) {
		out = append(out, values(Document{beginLine, data[begin:at]})...)
	}
	for at := 0; at < len(data); {
		line++
		next := len(data)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
			next = at + i + 1
		}
		if separator(data[at:next]) {
			end(at)
			begin, beginLine = next, line+1
		}
		at = next
	}
	end(len(data))
	return out
}

func separator(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("---"))
	return ok && (len(bytes.TrimSpace(rest)) == 0 || bytes.HasPrefix(bytes.TrimLeft(rest, " \t"), []byte("#")))
}

// values of a document: itself, or each of several JSON values.
func values(d Document) []Document {
	trimmed := trimStart(d.Data)
	d.Line += bytes.Count(d.Data[:len(d.Data)-len(trimmed)], []byte("\n"))
	d.Data = trimmed
	if !bytes.HasPrefix(trimmed, []byte("{")) {
		return []Document{d}
	}
	var out []Document
	decoder := json.NewDecoder(bytes.NewReader(trimmed))
	for {
		var value json.RawMessage
		err := decoder.Decode(&value)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			return []Document{d} // YAML that looks like JSON
		}
		before := trimmed[:decoder.InputOffset()-int64(len(value))]
		out = append(out, Document{d.Line + bytes.Count(before, []byte("\n")), value})
	}
}

// trimStart leaves out blank lines and comments before a document.
func trimStart(data []byte) []byte {
	for {
		data = bytes.TrimLeft(data, " \t\r\n")
		if !bytes.HasPrefix(data, []byte("#")) {
			return data
		}
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
}
