// Package caller is how providers call the APIs of clouds: what they send goes to nobody else, and what comes is bounded.
package caller

import (
	"fmt"
	"io"
	"net/http"
	"time"
)

// maxFault is how many bytes are read of an answer that is none of success. They become words of errors.
const maxFault = 64 << 10

// New is a client whose requests end after a while, read no more than most bytes of an answer, and follow no redirect:
// passwords, tokens and signatures are for the API that was asked.
func New(via http.RoundTripper, timeout time.Duration, most int64) *http.Client {
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: bounded{via, most}, Timeout: timeout, CheckRedirect: stay}
}

// bounded carries requests, and reads no more of an answer than is bearable.
type bounded struct {
	via  http.RoundTripper
	most int64
}

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.via.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	most := b.most
	if answer.StatusCode >= http.StatusMultipleChoices {
		most = min(most, maxFault)
	}
	answer.Body = body{http.MaxBytesReader(nil, answer.Body, most), r.URL.Host}
	return answer, nil
}

// body of an answer, whose faults say who answers.
type body struct {
	io.ReadCloser
	host string
}

func (b body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("the answer of %s: %w", b.host, err)
	}
	return n, err
}
