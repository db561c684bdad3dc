package lab

import (
	"fmt"
	"io"
	"strings"
)

// Ask for a page as a client, once. What answers has to be the pod of that name; "": any pod.
func (l *Lab) Ask(url, pod string) error {
	want := `"pod":"`
	if pod != "" {
		want += pod + `"`
	}
	from := l.HTTPClientFrom("client")
	defer from.CloseIdleConnections()
	response, err := from.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && !strings.Contains(string(body), want) {
		err = fmt.Errorf("answer %q", body)
	}
	return err
}
