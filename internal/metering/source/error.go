package source

import (
	"time"

	"github.com/purserhq/purser"
)

// The codes of scan errors are for programs and never change their meaning.
const (
	CodeUnreachable     = "unreachable"      // no connection: name, network, TLS
	CodeBlockedAddress  = "blocked_address"  // the operator does not allow connections there
	CodeEndpointMissing = "endpoint_missing" // the site has no endpoint yet
	CodeTimeout         = "timeout"
	CodeThrottled       = "throttled"    // 429 or 503 for too long
	CodeBudgetSpent     = "budget_spent" // the operator allows no more requests today
	CodeBadCredentials  = "bad_credentials"
	CodeAccessDenied    = "access_denied"
	CodeNoSuchBucket    = "no_such_bucket"
	CodeWrongRegion     = "wrong_region"
	CodeRedirected      = "redirected"     // the server points elsewhere; we do not follow
	CodeNotS3           = "not_s3"         // what answers does not speak S3
	CodeBadListing      = "bad_listing"    // a page that cannot be right: truncated, too large, absurd sizes
	CodeNoProgress      = "no_progress"    // pages without end
	CodeUnordered       = "unordered"      // keys do not come in order, or not from where they were asked for
	CodeUnreadable      = "unreadable"     // parts of a tree could not be read
	CodeNoSuchMethod    = "no_such_method" // a tree cannot be measured in the way that was asked for
	CodeFolderEmpty     = "folder_empty"   // done, but the team's folder holds nothing while the bucket does
	CodeChanged         = purser.ScanCodeChanged
	CodeServerError     = "server_error" // the store answers 5xx
	CodeInternal        = "internal"
)

// Error is why a step failed. Its text for people never contains anything the
// foreign server said; Err may, and goes to the operator's log only.
type Error struct {
	purser.ScanError
	// Temporary failures are worth another try, RetryAfter from now (0: soon).
	Temporary  bool
	RetryAfter time.Duration
	// Err is the cause, for the log.
	Err error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Code + ": " + e.Message
	}
	return e.Code + ": " + e.Message + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }
