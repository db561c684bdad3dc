package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// recording is an asciicast, version 2: a header, then a line of JSON for each event.
type recording struct {
	header
	events []event
}

type header struct {
	Version   int    `json:"version"`
	Width     int    `json:"width"`
	Height    int    `json:"height"`
	Timestamp int64  `json:"timestamp"` // seconds since 1970
	Title     string `json:"title,omitempty"`
}

// event is what was printed, and how long after the beginning.
type event struct {
	at   time.Duration
	text string
}

// MarshalJSON implements json.Marshaler.
func (e event) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{e.at.Seconds(), "o", e.text})
}

// UnmarshalJSON implements json.Unmarshaler.
func (e *event) UnmarshalJSON(data []byte) error {
	var seconds float64
	var kind string
	if err := json.Unmarshal(data, &[]any{&seconds, &kind, &e.text}); err != nil {
		return err
	}
	if kind != "o" {
		return fmt.Errorf("an event of kind %q", kind)
	}
	e.at = time.Duration(seconds * float64(time.Second))
	return nil
}

func (r *recording) write(file string) error {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(r.header)
	for _, e := range r.events {
		err = errors.Join(err, encoder.Encode(e))
	}
	if err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

func read(file string) (*recording, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := &recording{}
	decoder := json.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&r.header); err != nil {
		return nil, err
	}
	for {
		var e event
		err := decoder.Decode(&e)
		if errors.Is(err, io.EOF) {
			return r, nil
		}
		if err != nil {
			return nil, err
		}
		r.events = append(r.events, e)
	}
}
