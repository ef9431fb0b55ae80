package client

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Error is why a call failed: what the server answered, or that it did not.
// Every error that a method of Client returns is one, to be had with errors.As.
type Error struct {
	// Status is the status of the HTTP answer; 0 when there was none that could
	// be used.
	Status int
	// Code is the API's stable name for the sort of error, such as NOT_FOUND;
	// empty when the answer was not the API's.
	Code string
	// Message stands alone: what is wrong and what to do about it.
	Message string
	// Details says what is wrong with which part of the input, by JSON pointer;
	// nil if the input was not at fault.
	Details map[string]string
	// RequestID finds the call in the server's log; quote it in reports.
	RequestID string
	// RetryAfter is how long the server asks to wait; 0 means unsaid.
	RetryAfter time.Duration
	// Err is the cause when there was no answer.
	Err error

	// temporary failures may pass by themselves.
	temporary bool
	// answered is set when the server itself refused, so that nothing was done.
	answered bool
	// repeated is set when an attempt before this one may have been carried out
	// although its answer never arrived.
	repeated bool
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Temporary reports whether the same call may succeed later, without anybody
// changing anything.
func (e *Error) Temporary() bool { return e.temporary }

// IsNotFound reports whether err says that a thing does not exist, or is
// another team's, which the server does not tell apart.
func IsNotFound(err error) bool { return hasStatus(err, http.StatusNotFound) }

// IsChanged reports whether err says that a provider is no longer what the
// condition of a change (IfMatch) asks for.
func IsChanged(err error) bool { return hasStatus(err, http.StatusPreconditionFailed) }

// IsDenied reports whether err says that the API key does not count or does not
// allow the call.
func IsDenied(err error) bool {
	return hasStatus(err, http.StatusUnauthorized) || hasStatus(err, http.StatusForbidden)
}

func hasStatus(err error, status int) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == status
}

// givenUp is the failure of a call whose context ended.
func givenUp(ctx context.Context) *Error {
	e := &Error{Message: "The request was given up before it was answered.", Err: context.Cause(ctx)}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		e.Message, e.temporary = "The server did not answer in the time there was.", true
	}
	return e
}

// errUnfit is the failure of a call whose answer cannot be understood. What
// decoding says is dropped, because it may hold the answer, and that a key.
var errUnfit = &Error{Message: "The server's answer does not fit the description of the API; client and server are probably of different versions."}

// failure returns err as the *Error it is.
func failure(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return errUnfit
}

// result converts the answer of a call.
func result[W, D any](wire W, err error, convert func(W) (D, error)) (D, error) {
	var domain D
	if err == nil {
		domain, err = convert(wire)
	}
	if err != nil {
		var none D
		return none, failure(err)
	}
	return domain, nil
}
