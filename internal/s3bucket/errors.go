package s3bucket

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/egress"
	"github.com/purserhq/purser/internal/metering/source"
)

// maxRetryAfter bounds how long a server can make us wait.
const maxRetryAfter = 5 * time.Minute

// failure is one way to fail, in words for people.
type failure struct {
	code, message, hint string
	temporary           bool
}

func (f failure) because(err error) *source.Error {
	return &source.Error{
		ScanError: purser.ScanError{Code: f.code, Message: f.message, Hint: f.hint},
		Temporary: f.temporary, Err: err,
	}
}

var (
	// unreachable has one text for everything that can keep a connection from
	// being made. Told apart (refused, filtered, reset, another protocol), they
	// would let users map a network through us.
	unreachable = failure{
		source.CodeUnreachable, "No connection to the S3 service could be made.",
		"Check the endpoint's name and port, that the service is up and reachable from this server, and, for https, that its certificate is valid for this name and comes from an authority this server trusts.", true,
	}
	blocked = failure{
		source.CodeBlockedAddress, "The operator does not allow connections to the endpoint's address.",
		"Use a public https endpoint, or ask the operator to allow the address with --egress-allow.", false,
	}
	badEndpoint = failure{
		source.CodeUnreachable, "The endpoint is not an address that can be connected to.",
		"Write the endpoint as an absolute URL such as https://s3.example.com.", false,
	}
	badBucket = failure{
		source.CodeNoSuchBucket, "The bucket's name is not one that a bucket can have.",
		"Check the name of the bucket.", false,
	}
	timedOut = failure{
		source.CodeTimeout, "The S3 service did not answer in time.",
		"Check the load and health of the S3 service; buckets with many deleted objects also answer slowly.", true,
	}
	throttled = failure{
		source.CodeThrottled, "The S3 service asks for fewer requests.",
		"It is tried again later; if it goes on, raise the limits of the S3 service or measure less often.", true,
	}
	serverError = failure{
		source.CodeServerError, "The S3 service failed with an error of its own.",
		"It is tried again later; if it goes on, look into the logs of the S3 service.", true,
	}
	refused = failure{
		source.CodeServerError, "The S3 service refused the request to list the bucket.",
		"Check that the service supports listing (ListObjects), and look into its logs.", false,
	}
	unknownKey = failure{
		source.CodeBadCredentials, "The S3 service does not know the access key.",
		"Check accessKey: it may have been deleted, or belong to another service.", false,
	}
	badSignature = failure{
		source.CodeBadCredentials, "The secret access key does not fit the access key.",
		"Enter secretAccessKey again; if it is right, check signatureVersion and region.", false,
	}
	unauthorized = failure{
		source.CodeBadCredentials, "The S3 service did not accept the credentials.",
		"Check accessKey and secretAccessKey.", false,
	}
	badVersion = failure{
		source.CodeBadCredentials, "The S3 service does not accept signature version 2.",
		"Set signatureVersion to v4.", false,
	}
	expired = failure{
		source.CodeBadCredentials, "The credentials have expired or been withdrawn.",
		"Enter a new access key and secret; temporary credentials cannot be used here.", false,
	}
	skewed = failure{
		source.CodeBadCredentials, "The S3 service refuses requests because its clock and this server's differ too much.",
		"Set both clocks right, for instance with NTP.", false,
	}
	denied = failure{
		source.CodeAccessDenied, "The access key may not list the bucket.",
		"Grant it s3:ListBucket on the bucket.", false,
	}
	noBucket = failure{
		source.CodeNoSuchBucket, "The bucket does not exist.",
		"Check the names of bucket and endpoint, or create the bucket.", false,
	}
	wrongRegion = failure{
		source.CodeWrongRegion, "The bucket is in another region than the requests are signed for.",
		"Use the endpoint and the site of the bucket's region.", false,
	}
	redirected = failure{
		source.CodeRedirected, "The S3 service points to another address; redirects are not followed.",
		"Set endpoint to the address at which the bucket really is, or leave it empty for AWS.", false,
	}
	movingBucket = failure{
		source.CodeRedirected, "The S3 service points to another address for now; redirects are not followed.",
		"New buckets do that for some minutes; otherwise set endpoint to the address at which the bucket really is.", true,
	}
	notS3 = failure{
		source.CodeNotS3, "What answers at the endpoint does not speak S3.",
		"Check the endpoint: it must be the address of the S3 service itself, not of its console or a web site.", false,
	}
	badListing = failure{
		source.CodeBadListing, "The S3 service sent a listing that cannot be right, so nothing of it was counted.",
		"Check that the S3 service is healthy and lists the bucket correctly with another client.", false,
	}
	brokenOff = failure{
		source.CodeBadListing, "The answer of the S3 service broke off before it was complete.",
		"It is tried again later; if it goes on, look for proxies and time limits in front of the S3 service.", true,
	}
	noProgress = failure{
		source.CodeNoProgress, "The S3 service lists the same keys again, or without order and end.",
		"Check that the S3 service lists the bucket completely with another client.", false,
	}
	unordered = failure{
		source.CodeUnordered, "The S3 service does not list keys in their order, or not from where it is asked to.",
		"Such a bucket is listed by one chain of pages, which takes longer.", false,
	}
	badCursor = failure{
		source.CodeInternal, "The place at which to go on is not readable.",
		"Start the scan again.", false,
	}
)

// failures are S3's error codes (AWS, "Error responses", and what MinIO, Ceph
// and versitygw add). A code that is not here goes by its HTTP status.
var failures = map[string]failure{
	"InvalidAccessKeyId":                 unknownKey,
	"XAdminUserNotFound":                 unknownKey, // versitygw
	"SignatureDoesNotMatch":              badSignature,
	"InvalidToken":                       expired,
	"ExpiredToken":                       expired,
	"TokenRefreshRequired":               expired,
	"RequestTimeTooSkewed":               skewed,
	"RequestExpired":                     skewed,
	"AccessDenied":                       denied,
	"AllAccessDisabled":                  denied,
	"AccountProblem":                     denied,
	"NotSignedUp":                        denied,
	"UnauthorizedAccess":                 denied,
	"NoSuchBucket":                       noBucket,
	"InvalidBucketName":                  noBucket,
	"PermanentRedirect":                  redirected,
	"Redirect":                           redirected,
	"TemporaryRedirect":                  movingBucket,
	"AuthorizationHeaderMalformed":       wrongRegion,
	"IllegalLocationConstraintException": wrongRegion,
	"InvalidRegion":                      wrongRegion,
	"SlowDown":                           throttled,
	"SlowDownRead":                       throttled,
	"ServiceUnavailable":                 throttled,
	"TooManyRequests":                    throttled,
	"RequestLimitExceeded":               throttled,
	"ThrottlingException":                throttled,
	"Busy":                               throttled,
	"InternalError":                      serverError,
	"OperationAborted":                   serverError,
	"XMinioServerNotInitialized":         serverError,
	"RequestTimeout":                     timedOut,
}

// byStatus is for answers without an S3 error code that we know.
func byStatus(status int, isS3 bool) failure {
	switch {
	case status == http.StatusTemporaryRedirect:
		return movingBucket
	case status >= 300 && status < 400:
		return redirected
	case status == http.StatusUnauthorized:
		return unauthorized
	case status == http.StatusForbidden:
		return denied
	case status == http.StatusRequestTimeout:
		return timedOut
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return throttled
	case status == http.StatusNotImplemented, !isS3 && status < 500:
		return notS3
	case status >= 500, status < 300: // an unknown error inside a 200
		return serverError
	}
	return refused
}

// statusError is the error for an answer that is none to our question.
func statusError(a *answer, f *fault, signature purser.Signature) *source.Error {
	var (
		fail  failure
		known bool
		code  string
	)
	if f != nil {
		code = f.Code
		fail, known = failures[code]
	}
	if code == "InvalidRequest" && signature == purser.SignatureV2 { // what AWS says to version 2 in newer regions
		fail, known = badVersion, true
	}
	if !known {
		fail = byStatus(a.status, f != nil && code != "")
	}
	e := fail.because(fmt.Errorf("status %d, code %q", a.status, code))
	if e.Temporary {
		e.RetryAfter = retryAfter(a.header.Get("Retry-After"), time.Now())
	}
	return e
}

// retryAfter reads the header of RFC 9110, section 10.2.3, within bounds.
func retryAfter(value string, now time.Time) time.Duration {
	var wait time.Duration
	if seconds, err := strconv.ParseInt(value, 10, 32); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}

// transportError is the error for a request without an answer. asked says
// whether the request had been sent: only then can the service be called slow.
func transportError(err error, asked bool) *source.Error {
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, egress.ErrBlocked):
		return blocked.because(err)
	case asked && isTimeout(err):
		return timedOut.because(err)
	}
	e := unreachable.because(err)
	e.Temporary = !errors.As(err, &certificate)
	return e
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}
