package purser

import "context"

// Request is what travels with a call from the edge to the audit record.
type Request struct {
	ID            string
	SourceAddress string
	// IdempotencyKey is the caller's name for this very change, so that a retry
	// is not a second change; empty for none.
	IdempotencyKey string
	// BodyHash tells whether a retry is really the same request.
	BodyHash [32]byte
}

type requestKey struct{}

// WithRequest returns a context that carries r.
func WithRequest(ctx context.Context, r Request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

// RequestFrom returns the request that ctx carries, or the zero Request for
// work that no request caused.
func RequestFrom(ctx context.Context) Request {
	r, _ := ctx.Value(requestKey{}).(Request)
	return r
}
