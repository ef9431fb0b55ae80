package purser

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Kind says what sort of failure an Error is. The list is closed: whoever maps
// kinds (HTTP statuses, exit codes) maps all of them.
type Kind string

const (
	KindInternal           Kind = "internal"            // our fault; details go to the log only
	KindInvalid            Kind = "invalid"             // the request itself is wrong
	KindUnauthenticated    Kind = "unauthenticated"     // nobody we know
	KindPermissionDenied   Kind = "permission_denied"   // known, but may not do this
	KindNotFound           Kind = "not_found"           // not there, or not the caller's to see
	KindConflict           Kind = "conflict"            // contradicts what is stored
	KindPreconditionFailed Kind = "precondition_failed" // the caller's condition (If-Match) does not hold
	KindTooMany            Kind = "too_many"            // slow down
	KindUnavailable        Kind = "unavailable"         // try again later
	KindCanceled           Kind = "canceled"            // the caller went away
)

// Faults says what is wrong with which part of an input: JSON pointers
// (RFC 6901) into the input, each with a sentence for people.
type Faults map[string]string

// Error is a failure with words for the person who caused or met it.
type Error struct {
	Kind Kind
	// Op is the package and function that failed, for the log: "providers.Create".
	Op string
	// Message stands alone: what is wrong and what to do about it. It never
	// holds internals or anything a foreign server said.
	Message string
	// Details lists every fault of an invalid input at once; nil otherwise.
	Details Faults
	// RetryAfter is how long to wait before trying again; 0 means unsaid.
	RetryAfter time.Duration
	// Err is the cause, for the log only.
	Err error
}

// Error gives the full story for logs; people are shown Message.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(e.Op + ": ")
	}
	b.WriteString(e.Message)
	if e.Message == "" {
		b.WriteString(string(e.Kind))
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error of the given kind whose message is for people. It
// deliberately takes no cause: a cause is wrapped with Wrap, away from the
// message.
func Errorf(kind Kind, op, format string, args ...any) *Error {
	return &Error{Kind: kind, Op: op, Message: fmt.Sprintf(format, args...)}
}

// Wrap adds op to err and keeps its kind and message; an error that is not yet
// an Error becomes internal. Wrap(op, nil) is nil.
func Wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return &Error{Kind: e.Kind, Op: op, Message: e.Message, Details: e.Details, RetryAfter: e.RetryAfter, Err: err}
	}
	return &Error{Kind: KindInternal, Op: op, Err: err}
}

// KindOf returns the kind of err: KindInternal for an error without one, ""
// for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindInternal
}

// Invalid makes the error for an input with the given faults, or nil if there
// are none. The message names every fault, so that it is enough by itself for
// clients that show nothing else.
func Invalid(op string, faults Faults) error {
	if len(faults) == 0 {
		return nil
	}
	sentences := make([]string, 0, len(faults))
	for _, pointer := range slices.Sorted(maps.Keys(faults)) {
		name := strings.ReplaceAll(strings.TrimPrefix(pointer, "/"), "/", ".")
		if name == "" {
			name = "body"
		}
		sentences = append(sentences, name+": "+faults[pointer])
	}
	return &Error{Kind: KindInvalid, Op: op, Message: strings.Join(sentences, "; "), Details: faults}
}

// NotFound makes the error for a thing that is absent or another team's: the
// two must not be told apart, so both use this text.
func NotFound(op, what string) error {
	return Errorf(KindNotFound, op, "No %s with this id exists in your team.", what)
}
