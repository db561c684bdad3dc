package lab

import (
	"fmt"
	"io"
	"strings"
)

// Ask for a page as a client, once. What answers has to be a pod whose name begins so.
func (l *Lab) Ask(url, pod string) error {
	from := l.HTTPClientFrom("client")
	defer from.CloseIdleConnections()
	response, err := from.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && !strings.Contains(string(body), `"pod":"`+pod) {
		err = fmt.Errorf("answer %q", body)
	}
	return err
}
