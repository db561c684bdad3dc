package host

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/external-lb/external-lb/internal/engine"
)

// failed is what the machine could not do; what ran before runs on.
func failed(format string, args ...any) *Error {
	return &Error{Code: CodeMachine, Message: fmt.Sprintf(format, args...)}
}

// errorCode is what went wrong with a delivery as a whole; "" if that has no code.
func errorCode(err error) Code {
	if coded, ok := errors.AsType[*Error](err); ok {
		return coded.Code
	}
	return ""
}

// explain gives every error of a delivery a code and, where it is known what to
// do, says that.
func (u *unit) explain(err error) error {
	var coded *Error
	var refused *engine.Refusal
	var fault *engine.Fault
	switch {
	case err == nil, errors.As(err, &coded), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &fault):
		return &Error{Code: CodeMachine, Message: err.Error()}
	case errors.As(err, &refused):
		return &Error{Code: CodeRolledBack, Message: err.Error(), Late: refused.Late}
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return failed("the disk that holds %s is full: make room there; what is live goes on", u.dir)
	case errors.Is(err, unix.EROFS):
		return failed("%s is read-only: mount it writable; what is live goes on", u.dir)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return failed("no right to write below %s (%v): run `external-lb host install` again", u.dir, err)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return failed("%s is not complete (%v): run `external-lb host install` on this machine as root", u.dir, err)
	default:
		return failed("%v", err)
	}
}
