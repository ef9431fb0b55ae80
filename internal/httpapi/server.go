// Package httpapi is the HTTP face of Purser: it turns requests into calls of
// the services and their answers into the wire form of the contract
// (api/openapi.yaml).
//
// Every request takes the same road, whatever the operation: request id,
// recovery, security headers, route, authentication, body, check against the
// contract, handler, one table of errors. An operation cannot leave the road:
// its handler only sees input that the contract allows, and only returns a
// domain value or an error.
//
// The package leaves to the services every rule that needs more than the
// request itself: permissions, ownership, what contradicts what is stored.
package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/auth"
	"github.com/purserhq/purser/internal/oas"
)

// Prefix is where the API lives.
const Prefix = "/v1"

// Providers is what the API asks of the service for storage providers. Every
// method checks the principal's rights itself; the id of another team gives the
// same KindNotFound as an unknown one.
type Providers interface {
	List(ctx context.Context, p auth.Principal, page purser.PageRequest) (purser.Page[purser.Provider], error)
	Get(ctx context.Context, p auth.Principal, id purser.ProviderID) (purser.Provider, error)
	Create(ctx context.Context, p auth.Principal, d purser.ProviderDraft) (purser.Provider, error)
	// Update replaces the provider if match, called within the transaction,
	// agrees (KindPreconditionFailed otherwise); nil is no condition. Likewise Delete.
	Update(ctx context.Context, p auth.Principal, id purser.ProviderID, d purser.ProviderDraft, match func(purser.Provider) bool) (purser.Provider, error)
	Delete(ctx context.Context, p auth.Principal, id purser.ProviderID, match func(purser.Provider) bool) error
	MeteringRules(ctx context.Context, p auth.Principal, id purser.ProviderID) ([]purser.MeteringRule, error)
	SetMeteringRules(ctx context.Context, p auth.Principal, id purser.ProviderID, rules []purser.MeteringRule) ([]purser.MeteringRule, error)
	// CheckEndpoint says what is wrong with the address of an S3 service, in form
	// or by the operator's rules, or returns "". CheckSite does so for a site's name.
	CheckEndpoint(endpoint string) string
	CheckSite(name string) string
}

// Utilization is what the API asks of the service that knows how full things are.
type Utilization interface {
	Team(ctx context.Context, p auth.Principal) (purser.Utilization, error)
	Provider(ctx context.Context, p auth.Principal, id purser.ProviderID) (purser.SourceUsage, error)
	Health(ctx context.Context, p auth.Principal, id purser.ProviderID) (purser.Health, error)
	// History checks the times of the request itself.
	History(ctx context.Context, p auth.Principal, q purser.HistoryRequest) (purser.History, error)
}

// Scans is what the API asks of the service that measures.
type Scans interface {
	Start(ctx context.Context, p auth.Principal, id purser.ProviderID) (purser.Scan, error)
	StartAll(ctx context.Context, p auth.Principal) ([]purser.Scan, error)
	List(ctx context.Context, p auth.Principal, page purser.PageRequest) (purser.Page[purser.Scan], error)
	Get(ctx context.Context, p auth.Principal, id purser.ScanID) (purser.Scan, error)
	Cancel(ctx context.Context, p auth.Principal, id purser.ScanID) (purser.Scan, error)
}

// Teams is what the API asks of the service for teams, their keys and the
// record of what they did.
type Teams interface {
	List(ctx context.Context, p auth.Principal, page purser.PageRequest) (purser.Page[purser.Team], error)
	Get(ctx context.Context, p auth.Principal, id purser.TeamID) (purser.Team, error)
	Create(ctx context.Context, p auth.Principal, d purser.TeamDraft) (purser.Team, error)
	Update(ctx context.Context, p auth.Principal, id purser.TeamID, d purser.TeamDraft) (purser.Team, error)
	// ListKeys lists the keys of team; "" is the principal's own.
	ListKeys(ctx context.Context, p auth.Principal, team purser.TeamID, page purser.PageRequest) (purser.Page[purser.APIKey], error)
	CreateKey(ctx context.Context, p auth.Principal, d purser.KeyDraft) (purser.APIKey, purser.Secret, error)
	RevokeKey(ctx context.Context, p auth.Principal, id purser.KeyID) error
	Session(ctx context.Context, p auth.Principal) (purser.Team, purser.APIKey, error)
	AuditEvents(ctx context.Context, p auth.Principal, page purser.PageRequest) (purser.Page[purser.AuditEvent], error)
}

// Verifier turns an API key into who is asking. A key that does not count, for
// whatever reason, is KindUnauthenticated.
type Verifier interface {
	Verify(ctx context.Context, token string) (auth.Principal, error)
}

// MAC authenticates what the server hands out and gets back. Purposes keep the
// uses apart. All nodes of one database share the key.
type MAC interface {
	MAC(purpose string, data []byte) []byte
	VerifyMAC(purpose string, data, mac []byte) bool
}

// Options are the parts a Server is made of. All but the last three are needed.
type Options struct {
	Providers   Providers
	Utilization Utilization
	Scans       Scans
	Teams       Teams
	Verifier    Verifier
	MAC         MAC
	// Logger gets one line for each request (info) and one for each error; nil
	// discards them.
	Logger *slog.Logger
	// Observe is called after each request with the operation id of the contract,
	// or NoOperation; nil for nobody.
	Observe func(operation string, status int, duration time.Duration)
	// Now tells the time; nil means time.Now.
	Now func() time.Time
}

// NoOperation stands for the operation of requests that match none.
const NoOperation = "none"

// Server serves the API. It is safe for concurrent use.
type Server struct {
	contract *contract
	routes   *oas.Server
	cursors  cursors
	verifier Verifier
	log      *slog.Logger
	observe  func(operation string, status int, duration time.Duration)
}

// New makes a server from its parts. It compiles the contract, so that no
// request has to.
func New(o Options) (*Server, error) {
	if o.Providers == nil || o.Utilization == nil || o.Scans == nil || o.Teams == nil || o.Verifier == nil || o.MAC == nil {
		return nil, errors.New("httpapi: a service, the verifier or the MAC is missing from the options")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	contract, err := loadContract(formats(o.Providers))
	if err != nil {
		return nil, err
	}
	s := &Server{
		contract: contract,
		cursors:  cursors{o.MAC},
		verifier: o.Verifier,
		log:      o.Logger,
		observe:  o.Observe,
	}
	h := &handlers{
		providers:   o.Providers,
		utilization: o.Utilization,
		scans:       o.Scans,
		teams:       o.Teams,
		cursors:     s.cursors,
		now:         o.Now,
	}
	s.routes, err = oas.NewServer(h, h,
		oas.WithPathPrefix(Prefix),
		oas.WithErrorHandler(func(ctx context.Context, _ http.ResponseWriter, _ *http.Request, err error) {
			callFrom(ctx).err = err
		}),
		oas.WithNotFound(func(_ http.ResponseWriter, r *http.Request) {
			callFrom(r.Context()).err = errNoRoute
		}),
		oas.WithMethodNotAllowed(func(_ http.ResponseWriter, r *http.Request, _ string) {
			callFrom(r.Context()).err = errMethod
		}))
	if err != nil {
		return nil, err
	}
	for _, id := range s.contract.ids() {
		if !s.contract.operations[id].served(s.routes) {
			return nil, errors.New("httpapi: internal/oas does not know operation " + id + "; run make generate")
		}
	}
	return s, nil
}

// Handler returns the handler for everything under Prefix; all other paths are
// answered with 404.
func (s *Server) Handler() http.Handler { return s }

// handlers are the operations of the contract, as ogen calls them. They live in
// the files named after what they deal with.
type handlers struct {
	providers   Providers
	utilization Utilization
	scans       Scans
	teams       Teams
	cursors     cursors
	now         func() time.Time
}

var (
	_ oas.Handler         = (*handlers)(nil)
	_ oas.SecurityHandler = (*handlers)(nil)
)

// HandleBearerAuth adds nothing: the road authenticates before ogen is reached.
func (*handlers) HandleBearerAuth(ctx context.Context, _ oas.OperationName, _ oas.BearerAuth) (context.Context, error) {
	if callFrom(ctx).principal.KeyID == "" {
		return nil, errUnauthenticated
	}
	return ctx, nil
}

// NewError hands the error to the road, which answers it by the one table; what
// ogen writes from the result is thrown away.
func (*handlers) NewError(ctx context.Context, err error) *oas.ErrorStatusCode {
	callFrom(ctx).err = err
	return &oas.ErrorStatusCode{StatusCode: http.StatusInternalServerError}
}
