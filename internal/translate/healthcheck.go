package translate

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
)

func host(into *string, v string) error {
	if !lb.SafeHost(v) {
		return fmt.Errorf("%s is not a name such as web.example, of small letters, digits, dots and -", quoted(v))
	}
	*into = v
	return nil
}

func status(into *lb.Status, v string) error {
	first, last, isRange := strings.Cut(v, "-")
	if !isRange {
		last = first
	}
	from, errFrom := strconv.ParseUint(first, 10, 16)
	to, errTo := strconv.ParseUint(last, 10, 16)
	s := lb.Status{From: uint16(from), To: uint16(to)}
	if errFrom != nil || errTo != nil || s == (lb.Status{}) || !s.Valid() {
		return fmt.Errorf("%s is not a status such as 204, or 200-299", quoted(v))
	}
	*into = s
	return nil
}

// tcpCheck is what a check sends and expects, in hex, with a blank between them; "": nothing is said.
func tcpCheck(t *v1alpha1.TCPHealthCheck) string {
	if t == nil {
		return ""
	}
	return hex.EncodeToString([]byte(t.Send)) + " " + hex.EncodeToString([]byte(t.Expect))
}

// spoken reads what tcpCheck wrote.
func spoken(into *lb.HealthCheck, v string) error {
	send, expect, _ := strings.Cut(v, " ")
	if !lb.SafeHex(send) || !lb.SafeHex(expect) {
		return errors.New("send and expect have at most 256 bytes each")
	}
	into.Send, into.Expect = send, expect
	return nil
}
