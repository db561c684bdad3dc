package host

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// failed is what the machine could not do; what ran before runs on.
func failed(format string, args ...any) *Error {
	return &Error{Code: CodeMachine, Message: fmt.Sprintf(format, args...)}
}

// explain gives every error of a delivery a code and, where it is known what to
// do, says that.
func (a *Agent) explain(err error) error {
	var coded *Error
	var refused *refusal
	switch {
	case err == nil, errors.As(err, &coded), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &refused):
		return &Error{Code: CodeRolledBack, Message: err.Error()}
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return failed("the disk that holds %s is full: make room there; nothing was changed", a.dir)
	case errors.Is(err, unix.EROFS):
		return failed("%s is read-only: mount it writable; nothing was changed", a.dir)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return failed("no right to write below %s (%v): run `external-lb host install` again", a.dir, err)
	case errors.Is(err, unix.ENOENT):
		return failed("%s is not complete (%v): run `external-lb host install` on this machine as root", a.dir, err)
	default:
		return failed("%v", err)
	}
}
