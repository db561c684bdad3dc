package provider

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Code says what is wrong, for programs. The words beside it are for people.
type Code string

// The codes. Those that pass by themselves say when to try again.
const (
	Invalid       Code = "Invalid"       // out of the contract; Field says where
	Unauthorized  Code = "Unauthorized"  // the token is missing, or not the provider's
	NotFound      Code = "NotFound"      // there is no such load balancer: nothing of it is left in the cloud
	TooLarge      Code = "TooLarge"      // the request has more bytes than MaxBody
	Unsupported   Code = "Unsupported"   // the cloud cannot do that; Field names the setting
	QuotaExceeded Code = "QuotaExceeded" // the account may have no more of it
	AddressTaken  Code = "AddressTaken"  // the wanted address is not to be had
	Immutable     Code = "Immutable"     // passes: the cloud is at work on it and takes no change now
	Throttled     Code = "Throttled"     // passes: too many requests
	Unavailable   Code = "Unavailable"   // passes: the cloud does not answer
	Internal      Code = "Internal"      // anything else
)

// status is the HTTP status of each Code.
var status = map[Code]int{
	Invalid:       http.StatusBadRequest,
	Unauthorized:  http.StatusUnauthorized,
	NotFound:      http.StatusNotFound,
	TooLarge:      http.StatusRequestEntityTooLarge,
	Unsupported:   http.StatusUnprocessableEntity,
	QuotaExceeded: http.StatusForbidden,
	AddressTaken:  http.StatusConflict,
	Immutable:     http.StatusConflict,
	Throttled:     http.StatusTooManyRequests,
	Unavailable:   http.StatusServiceUnavailable,
	Internal:      http.StatusInternalServerError,
}

// known is a Code of the contract, or none: others may be text of any length.
func (c Code) known() Code {
	if _, is := status[c]; is || c == "" {
		return c
	}
	return Internal
}

// Passes reports whether the same request may do later.
func (c Code) Passes() bool { return c == Immutable || c == Throttled || c == Unavailable }

// Error is the answer of a provider that does not do what it was asked.
type Error struct {
	Code    Code   `json:"code"`
	Field   string `json:"field,omitempty"` // of the request, as listeners[0].nodePort, or the name of a Setting
	Message string `json:"message"`
	// RetryAfterSeconds is when to ask again, of what passes. It is the header Retry-After, too.
	RetryAfterSeconds int32 `json:"retryAfterSeconds,omitempty"`
}

func (e *Error) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("%s: %s", e.Code, e.Message)
	}
	return fmt.Sprintf("%s: %s: %s", e.Code, e.Field, e.Message)
}

// Is reports whether an error is a provider's, with a Code.
func Is(err error, code Code) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}

// NoFlavor is what a Cloud answers where a load balancer is to be made of a flavor that it does not offer.
func NoFlavor(name string, offered []string) *Error {
	message := "there is no " + name + ": this provider offers " + strings.Join(offered, ", ")
	if len(offered) == 0 {
		message = "this provider offers none"
	}
	return &Error{Code: Unsupported, Field: "flavor", Message: message}
}

// NoCertificate is why a Listener is refused whose certificate is none that the provider offers.
func NoCertificate(name string, offered []string) string {
	if len(offered) == 0 {
		return "there is no certificate " + name + ": this provider offers none"
	}
	return "there is no certificate " + name + ": this provider offers " + strings.Join(offered, ", ")
}

// OtherFlavor is what a Cloud says of a load balancer whose flavor is another one than is wanted, and of
// its ports that are refused: who asked looks at those only where all else is as it is wanted.
func OtherFlavor(has string, refused []Refusal) (Code, string) {
	if has == "" {
		has = "the provider's own"
	}
	message := "its flavor is " + has + ": the cloud does not change that, so make the Service anew"
	if len(refused) > 0 {
		message += fmt.Sprintf("; port %d: %s", refused[0].Port, refused[0].Message)
	}
	return Unsupported, message
}

func invalid(field, format string, args ...any) *Error {
	return &Error{Code: Invalid, Field: field, Message: clip(fmt.Sprintf(format, args...))}
}
