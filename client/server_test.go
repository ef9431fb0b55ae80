package client_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/api"
	"github.com/purserhq/purser/client"
	"github.com/purserhq/purser/internal/auth"
	"github.com/purserhq/purser/internal/httpapi"
)

// TestOperationsFitTheServer sends every operation through the server's real
// edge, which holds requests and answers against the contract. Behind it are
// services that always answer the same.
func TestOperationsFitTheServer(t *testing.T) {
	t.Parallel()
	server := startEdge(t)
	c := dial(t, server, key)

	// Where the real edge answers otherwise than the canned one.
	wants := map[string]any{
		"CreateProvider":                           tagged{provider, `"splgct3arqdh77c-3"`},
		"UpdateProvider that keeps the secret":     tagged{bareProvider, `"splgct3arqdh77d-4"`},
		"UpdateProvider that changes the secret":   tagged{provider, `"splgct3arqdh77c-3"`},
		"OpenAPI":                                  api.OpenAPI,
		"GetProvider with something that is no id": nil, // not found
		"Session of nobody":                        nil, // this client has a key
		"ListProviders":                            nil, // its cursor is no real one
	}
	for _, test := range operations {
		want := test.want
		if other, has := wants[test.name]; has && other == nil {
			continue
		} else if has {
			want = other
		}
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := test.call(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmp.FilterPath(isCursor, cmp.Comparer(bothOrNone))); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		})
	}
}

// startEdge starts the server's edge and returns its address.
func startEdge(t *testing.T) string {
	t.Helper()
	edge, err := httpapi.New(httpapi.Options{
		Providers: providerService{}, Utilization: usageService{}, Scans: scanService{}, Teams: teamService{},
		Verifier: anybody{}, MAC: mac{},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(edge.Handler())
	t.Cleanup(server.Close)
	return server.URL
}

func dial(t *testing.T, url, key string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{URL: url, APIKey: purser.NewSecret(key)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// isCursor finds cursors: only the server knows what is in them.
func isCursor(path cmp.Path) bool { return path.Last().String() == ".Next" }

func bothOrNone(a, b string) bool { return (a == "") == (b == "") }

func TestServerRefusals(t *testing.T) {
	t.Parallel()
	server := startEdge(t)
	c, stranger := dial(t, server, key), dial(t, server, "")
	_, err := stranger.GetTeam(t.Context(), team.ID)
	if !client.IsDenied(err) {
		t.Errorf("without a key: %v", err)
	}
	if session, err := stranger.Session(t.Context()); err != nil || session != (client.Session{}) {
		t.Errorf("the session without a key is %v, %v", session, err)
	}
	_, _, err = c.GetProvider(t.Context(), "none")
	if !client.IsNotFound(err) {
		t.Errorf("an unknown provider: %v", err)
	}
	_, _, err = c.UpdateProvider(t.Context(), provider.ID, draft, client.IfMatch(`"other"`))
	if !client.IsChanged(err) {
		t.Errorf("a condition that does not hold: %v", err)
	}
	_, err = c.ListProviders(t.Context(), client.ListOptions{Limit: 121, After: "forged"})
	var e *client.Error
	if !errors.As(err, &e) || e.Code != "BAD_REQUEST" || len(e.Details) != 2 || e.RequestID == "" {
		t.Errorf("two faults: %+v", e)
	}
}

type anybody struct{}

func (anybody) Verify(context.Context, string) (auth.Principal, error) {
	return auth.Principal{KeyID: apiKey.ID, TeamID: team.ID, Role: purser.RoleOperator}, nil
}

type mac struct{}

func (mac) MAC(purpose string, data []byte) []byte {
	h := hmac.New(sha256.New, []byte(purpose))
	_, _ = h.Write(data)
	return h.Sum(nil)
}

func (m mac) VerifyMAC(purpose string, data, sum []byte) bool {
	return hmac.Equal(m.MAC(purpose, data), sum)
}

// more is a page that another one follows, and last one that none does.
func more[T any](items ...T) purser.Page[T] {
	return purser.Page[T]{Items: items, Next: purser.Position{CreatedAt: hour, ID: "id"}}
}

func last[T any](items ...T) purser.Page[T] { return purser.Page[T]{Items: items} }

type providerService struct{}

func stored(id purser.ProviderID) (purser.Provider, error) {
	p := provider
	p.Version, p.TeamID, p.CreatedAt = 3, team.ID, hour
	switch id {
	case provider.ID:
		return p, nil
	case bareProvider.ID:
		p = bareProvider
		p.Version = 4
		return p, nil
	}
	return purser.Provider{}, purser.NotFound("test", "storage provider")
}

func (providerService) List(context.Context, auth.Principal, purser.PageRequest) (purser.Page[purser.Provider], error) {
	return more(provider, bareProvider), nil
}

func (providerService) Get(_ context.Context, _ auth.Principal, id purser.ProviderID) (purser.Provider, error) {
	return stored(id)
}

func (providerService) Create(context.Context, auth.Principal, purser.ProviderDraft) (purser.Provider, error) {
	return stored(provider.ID)
}

func (providerService) Update(_ context.Context, _ auth.Principal, id purser.ProviderID, d purser.ProviderDraft, match func(purser.Provider) bool) (purser.Provider, error) {
	p, err := stored(id)
	if d.Name == draft.Name && match != nil && !match(p) {
		return p, purser.Errorf(purser.KindPreconditionFailed, "test", "Changed.")
	}
	return p, err
}

func (providerService) Delete(context.Context, auth.Principal, purser.ProviderID, func(purser.Provider) bool) error {
	return nil
}

func (providerService) MeteringRules(context.Context, auth.Principal, purser.ProviderID) ([]purser.MeteringRule, error) {
	return []purser.MeteringRule{{Category: purser.CategoryDataset, Prefix: "corpora/"}}, nil
}

func (providerService) SetMeteringRules(_ context.Context, _ auth.Principal, _ purser.ProviderID, rules []purser.MeteringRule) ([]purser.MeteringRule, error) {
	return rules, nil
}

func (providerService) CheckEndpoint(endpoint string) string { return purser.CheckEndpoint(endpoint) }
func (providerService) CheckSite(string) string              { return "" }

type usageService struct{}

func (usageService) Team(context.Context, auth.Principal) (purser.Utilization, error) {
	return purser.Utilization{
		Usage:            purser.Usage{Dataset: 1, Model: 2, NotebookWorkspace: 3, SharedStorage: 4},
		TotalFreeStorage: 100, MeasuredAt: hour, State: purser.UsageStale,
	}, nil
}

func (usageService) Provider(context.Context, auth.Principal, purser.ProviderID) (purser.SourceUsage, error) {
	usage := purser.SourceUsage{
		Tallies: map[purser.Category]purser.Tally{}, MeasuredAt: hour, Method: "list", Complete: true, Requests: 7,
		EstimatedCost: 35, Budget: purser.RequestBudget{Spent: 7, Day: today},
	}
	for _, category := range append([]purser.Category{purser.CategoryUnmatched}, purser.Categories...) {
		usage.Tallies[category] = tally
	}
	usage.Folders = []purser.FolderLevel{{
		Biggest: []purser.Folder{{Path: "a/", Amount: purser.Amount{Objects: 1, Bytes: 2}}},
		Rest:    purser.Amount{Objects: 3, Bytes: 4},
	}}
	usage.StorageClasses = []purser.StorageClass{{Name: "STANDARD", Amount: purser.Amount{Objects: 5, Bytes: 6}}}
	return usage, nil
}

func (usageService) Health(_ context.Context, _ auth.Principal, id purser.ProviderID) (purser.Health, error) {
	if id == bareProvider.ID {
		return untried, nil
	}
	return failing, nil
}

func (usageService) History(_ context.Context, _ auth.Principal, q purser.HistoryRequest) (purser.History, error) {
	if q != historyRequest && q != (purser.HistoryRequest{Step: purser.StepHour}) {
		return purser.History{}, purser.NotFound("test", "storage provider")
	}
	h := history
	if q.Provider == "" {
		h.DaysUntilFull = nil
	}
	return h, nil
}

type scanService struct{}

func (scanService) Start(context.Context, auth.Principal, purser.ProviderID) (purser.Scan, error) {
	return scan, nil
}

func (scanService) StartAll(context.Context, auth.Principal) ([]purser.Scan, error) {
	return []purser.Scan{scan, treeScan}, nil
}

func (scanService) List(context.Context, auth.Principal, purser.PageRequest) (purser.Page[purser.Scan], error) {
	return last(treeScan), nil
}

func (scanService) Get(context.Context, auth.Principal, purser.ScanID) (purser.Scan, error) {
	return scan, nil
}

func (scanService) Cancel(context.Context, auth.Principal, purser.ScanID) (purser.Scan, error) {
	return scan, nil
}

type teamService struct{}

func (teamService) List(context.Context, auth.Principal, purser.PageRequest) (purser.Page[purser.Team], error) {
	return more(team), nil
}

func (teamService) Get(context.Context, auth.Principal, purser.TeamID) (purser.Team, error) {
	return team, nil
}

func (teamService) Create(context.Context, auth.Principal, purser.TeamDraft) (purser.Team, error) {
	return team, nil
}

func (teamService) Update(context.Context, auth.Principal, purser.TeamID, purser.TeamDraft) (purser.Team, error) {
	return team, nil
}

func (teamService) ListKeys(context.Context, auth.Principal, purser.TeamID, purser.PageRequest) (purser.Page[purser.APIKey], error) {
	return more(apiKey), nil
}

func (teamService) CreateKey(_ context.Context, _ auth.Principal, d purser.KeyDraft) (purser.APIKey, purser.Secret, error) {
	k := apiKey
	k.Name, k.Role, k.TeamID, k.ExpiresAt = d.Name, d.Role, d.TeamID, d.ExpiresAt
	return k, purser.NewSecret("psr_new"), nil
}

func (teamService) RevokeKey(context.Context, auth.Principal, purser.KeyID) error { return nil }

func (teamService) Session(context.Context, auth.Principal) (purser.Team, purser.APIKey, error) {
	k := apiKey
	k.Role, k.ExpiresAt = purser.RoleOwner, time.Time{}
	return team, k, nil
}

func (teamService) AuditEvents(context.Context, auth.Principal, purser.PageRequest) (purser.Page[purser.AuditEvent], error) {
	return more(event), nil
}
