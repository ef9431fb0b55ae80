package client_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/client"
)

const key = "psr_key000000000001_secret_check"

// connect makes a client of a server that is given as a handler.
func connect(t *testing.T, handler http.HandlerFunc) *client.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	c, err := client.New(client.Config{URL: server.URL, APIKey: purser.NewSecret(key)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

const (
	providerJSON = `{"id":"splgct3arqdh77c","isManaged":false,"isTeamDefault":true,"name":"Training data","s3Config":{
		"accessKey":"AKIAIOSFODNN7EXAMPLE","bucket":"training-data","endpoint":"https://s3.example.com","region":"ny2",
		"retainData":true,"secretAccessKey":"********","signatureVersion":"s3v4"}}`
	bareProviderJSON = `{"id":"splgct3arqdh77d","isManaged":true,"isTeamDefault":null,"name":"Managed","s3Config":{
		"accessKey":"A","bucket":"managed","endpoint":null,"region":null,"retainData":null,"secretAccessKey":"********","signatureVersion":null}}`
	scanJSON = `{"id":"scn000000000001","providerId":"splgct3arqdh77c","source":"s3://training-data","state":"done","objects":3,"bytes":"9007199254740993",
		"requests":1,"estimatedCost":{"currency":"USD","amount":"0.000005"},"requestBudget":` + budgetJSON + `,"startedAt":"2026-11-01T10:00:00Z","finishedAt":"2026-11-01T10:00:01Z","error":{"code":"folder_empty","message":"M.","hint":"H."}}`
	treeScanJSON = `{"id":"scn000000000002","providerId":null,"source":"/srv/shared","state":"queued","objects":0,"bytes":"0",
		"requests":0,"estimatedCost":null,"requestBudget":null,"startedAt":null,"finishedAt":null,"error":null}`
	budgetJSON = `{"requestsPerDay":1000,"requestsToday":12,"renewsAt":"2026-11-02T00:00:00Z"}`
	teamJSON   = `{"id":"tea000000000001","name":"Vision","namespace":"vision","totalFreeStorage":"1099511627776","dtCreated":"2026-11-01T10:00:00Z"}`
	keyJSON    = `{"id":"key000000000001","name":"jobs","role":"editor","teamId":"tea000000000001","dtCreated":"2026-11-01T10:00:00Z","expiresAt":"2027-01-01T00:00:00Z","lastUsedAt":null}`
	eventJSON  = `{"id":"evt000000000001","at":"2026-11-01T10:00:00Z","teamId":"tea000000000001","actor":"key000000000001","action":"provider.create",
		"target":"splgct3arqdh77c","result":"ok","requestId":"r1","sourceAddress":"127.0.0.1","fields":["name"]}`
	historyJSON = `{"items":[{"at":"2026-11-01T10:00:00Z","datasetUsage":"1","modelUsage":"2","notebookWorkspaceUsage":"3","sharedStorageUsage":"4","totalUsage":"10",
		"byteHours":{"dataset":"10","model":"20","notebookWorkspace":"30","sharedStorage":"40","total":"100"},"complete":true}],"daysUntilFull":DAYS}`
	tallyJSON = `{"objects":2,"current":"10","noncurrent":"20","unfinished":"30"}`
)

var (
	hour     = time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	today    = purser.StepDay.Begin(hour)
	provider = purser.Provider{
		ID: "splgct3arqdh77c", Name: "Training data", TeamDefault: true,
		S3: purser.S3Config{
			Endpoint: "https://s3.example.com", Bucket: "training-data", AccessKey: "AKIAIOSFODNN7EXAMPLE",
			Region: "ny2", RetainData: true, SignatureVersion: "s3v4",
		},
	}
	bareProvider = purser.Provider{ID: "splgct3arqdh77d", Name: "Managed", Managed: true, S3: purser.S3Config{Bucket: "managed", AccessKey: "A"}}
	scan         = purser.Scan{
		ID: "scn000000000001", ProviderID: "splgct3arqdh77c", Source: "s3://training-data", State: purser.ScanDone, Objects: 3,
		Bytes: 9007199254740993, Requests: 1, StartedAt: hour, FinishedAt: hour.Add(time.Second),
		Error: &purser.ScanError{Code: "folder_empty", Message: "M.", Hint: "H."}, EstimatedCost: 5,
		Budget: &purser.RequestBudget{PerDay: 1000, Spent: 12, Day: today},
	}
	failing = purser.Health{
		State: purser.HealthFailing, Since: hour, CheckedAt: today.AddDate(0, 0, 1), Error: &purser.ScanError{Code: "c", Message: "M.", Hint: "H."},
		Method:   "list",
		Detected: purser.Detected{Region: "eu-west-1", Addressing: purser.AddressingVirtualHost, ListVersion: 1, Versioned: new(bool)},
		Budget:   purser.RequestBudget{Spent: 7, Day: today},
	}
	untried  = purser.Health{State: purser.HealthUnknown, Budget: purser.RequestBudget{PerDay: 100, Day: today}}
	treeScan = purser.Scan{ID: "scn000000000002", Source: "/srv/shared", State: purser.ScanQueued}
	team     = purser.Team{ID: "tea000000000001", Name: "Vision", Namespace: "vision", TotalFreeStorage: 1 << 40, CreatedAt: hour}
	apiKey   = purser.APIKey{
		ID: "key000000000001", TeamID: "tea000000000001", Name: "jobs", Role: purser.RoleEditor,
		CreatedAt: hour, ExpiresAt: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	event = purser.AuditEvent{
		ID: "evt000000000001", TeamID: "tea000000000001", At: hour, Actor: "key000000000001", Action: "provider.create",
		Target: "splgct3arqdh77c", Result: purser.AuditOK, RequestID: "r1", SourceAddress: "127.0.0.1", Fields: []string{"name"},
	}
	tally   = purser.Tally{Objects: 2, Current: 10, Noncurrent: 20, Unfinished: 30}
	days    = 90
	history = purser.History{
		Items: []purser.HistoryItem{{
			At: hour, Usage: purser.Usage{Dataset: 1, Model: 2, NotebookWorkspace: 3, SharedStorage: 4},
			ByteHours: purser.Usage{Dataset: 10, Model: 20, NotebookWorkspace: 30, SharedStorage: 40}, Complete: true,
		}},
		DaysUntilFull: &days,
	}
	historyRequest = purser.HistoryRequest{From: hour, To: hour.Add(24 * time.Hour), Step: purser.StepDay, Provider: provider.ID}
	draft          = purser.ProviderDraft{Name: provider.Name, TeamDefault: true, S3: provider.S3, Secret: purser.NewSecret("hush")}
)

// tagged is what the methods for one provider return.
type tagged struct {
	Provider purser.Provider
	Tag      client.ETag
}

func page(item string) string {
	return `{"hasMore":true,"items":[` + item + `],"nextPage":"next"}`
}

// operations is every method of Client: what it sends, and what it makes of the
// answer.
var operations = []struct {
	name    string
	call    func(context.Context, *client.Client) (any, error)
	request string // method, path and query
	body    string // what must be sent; "" for nothing
	answer  string
	header  http.Header
	want    any
}{
	{
		name: "ListProviders",
		call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.ListProviders(ctx, client.ListOptions{After: "a/b", Limit: 5, Ascending: true})
		},
		request: "GET /v1/storage-providers?after=a%2Fb&limit=5&order=asc",
		answer:  page(providerJSON + "," + bareProviderJSON),
		want:    client.Page[purser.Provider]{Items: []purser.Provider{provider, bareProvider}, Next: "next"},
	},
	{
		name: "GetProvider",
		call: func(ctx context.Context, c *client.Client) (any, error) {
			p, tag, err := c.GetProvider(ctx, provider.ID)
			return tagged{p, tag}, err
		},
		request: "GET /v1/storage-providers/splgct3arqdh77c",
		answer:  providerJSON,
		header:  http.Header{"Etag": {`"splgct3arqdh77c-3"`}},
		want:    tagged{provider, `"splgct3arqdh77c-3"`},
	},
	{
		name: "GetProvider with something that is no id",
		call: func(ctx context.Context, c *client.Client) (any, error) {
			p, tag, err := c.GetProvider(ctx, "utilization")
			return tagged{p, tag}, err
		},
		request: "GET /v1/storage-providers/malformed",
		answer:  providerJSON,
		header:  http.Header{"Etag": {`"1"`}},
		want:    tagged{provider, `"1"`},
	},
	{
		name: "CreateProvider",
		call: func(ctx context.Context, c *client.Client) (any, error) {
			p, tag, err := c.CreateProvider(ctx, draft)
			return tagged{p, tag}, err
		},
		request: "POST /v1/storage-providers",
		body: `{"isTeamDefault":true,"name":"Training data","s3Config":{"accessKey":"AKIAIOSFODNN7EXAMPLE","bucket":"training-data",
			"endpoint":"https://s3.example.com","region":"ny2","retainData":true,"secretAccessKey":"hush","signatureVersion":"s3v4"},"storageProviderType":"s3"}`,
		answer: providerJSON,
		header: http.Header{"Etag": {`"1"`}},
		want:   tagged{provider, `"1"`},
	},
	{
		name: "UpdateProvider that keeps the secret",
		call: func(ctx context.Context, c *client.Client) (any, error) {
			p, tag, err := c.UpdateProvider(ctx, bareProvider.ID, purser.ProviderDraft{Name: "N", S3: purser.S3Config{Bucket: "bkt", AccessKey: "A"}}, client.IfMatch(`"1"`))
			return tagged{p, tag}, err
		},
		request: "PUT /v1/storage-providers/splgct3arqdh77d",
		body:    `{"isTeamDefault":false,"name":"N","s3Config":{"accessKey":"A","bucket":"bkt","endpoint":null,"region":null,"retainData":false,"signatureVersion":null}}`,
		answer:  bareProviderJSON,
		header:  http.Header{"Etag": {`"2"`}},
		want:    tagged{bareProvider, `"2"`},
	},
	{
		name: "UpdateProvider that changes the secret",
		call: func(ctx context.Context, c *client.Client) (any, error) {
			p, tag, err := c.UpdateProvider(ctx, provider.ID, draft)
			return tagged{p, tag}, err
		},
		request: "PUT /v1/storage-providers/splgct3arqdh77c",
		body: `{"isTeamDefault":true,"name":"Training data","s3Config":{"accessKey":"AKIAIOSFODNN7EXAMPLE","bucket":"training-data",
			"endpoint":"https://s3.example.com","region":"ny2","retainData":true,"secretAccessKey":"hush","signatureVersion":"s3v4"}}`,
		answer: providerJSON,
		header: http.Header{"Etag": {`"2"`}},
		want:   tagged{provider, `"2"`},
	},
	{
		name: "DeleteProvider",
		call: func(ctx context.Context, c *client.Client) (any, error) {
			return nil, c.DeleteProvider(ctx, provider.ID, client.IfMatch(`"2"`))
		},
		request: "DELETE /v1/storage-providers/splgct3arqdh77c",
		answer:  `{"id":"splgct3arqdh77c"}`,
	},
	{
		name: "MeteringRules",
		call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.MeteringRules(ctx, provider.ID)
		},
		request: "GET /v1/storage-providers/splgct3arqdh77c/metering",
		answer:  `{"rules":[{"category":"dataset","prefix":"corpora/"}]}`,
		want:    []purser.MeteringRule{{Category: purser.CategoryDataset, Prefix: "corpora/"}},
	},
	{
		name: "SetMeteringRules to the default",
		call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.SetMeteringRules(ctx, provider.ID, nil)
		},
		request: "PUT /v1/storage-providers/splgct3arqdh77c/metering",
		body:    `{"rules":[]}`,
		answer:  `{"rules":[]}`,
		want:    []purser.MeteringRule{},
	},
	{
		name: "SetMeteringRules",
		call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.SetMeteringRules(ctx, provider.ID, []purser.MeteringRule{{Category: purser.CategoryModel, Prefix: "m/"}})
		},
		request: "PUT /v1/storage-providers/splgct3arqdh77c/metering",
		body:    `{"rules":[{"category":"model","prefix":"m/"}]}`,
		answer:  `{"rules":[{"category":"model","prefix":"m/"}]}`,
		want:    []purser.MeteringRule{{Category: purser.CategoryModel, Prefix: "m/"}},
	},
	{
		name:    "Utilization",
		call:    func(ctx context.Context, c *client.Client) (any, error) { return c.Utilization(ctx) },
		request: "GET /v1/storage-providers/utilization",
		answer: `{"datasetUsage":"1","modelUsage":"2","notebookWorkspaceUsage":"3","remainingFreeStorage":"90","sharedStorageUsage":"4",
			"totalFreeStorage":"100","totalUsage":"10"}`,
		header: http.Header{"Purser-Measured-At": {"2026-11-01T10:00:00Z"}, "Purser-Usage-State": {"stale"}},
		want: purser.Utilization{
			Usage:            purser.Usage{Dataset: 1, Model: 2, NotebookWorkspace: 3, SharedStorage: 4},
			TotalFreeStorage: 100, MeasuredAt: hour, State: purser.UsageStale,
		},
	},
	{
		name: "ProviderUsage",
		call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.ProviderUsage(ctx, provider.ID)
		},
		request: "GET /v1/storage-providers/splgct3arqdh77c/utilization",
		answer: `{"dataset":` + tallyJSON + `,"model":` + tallyJSON + `,"notebookWorkspace":` + tallyJSON + `,"sharedStorage":` + tallyJSON + `,
			"unmatched":` + tallyJSON + `,"measuredAt":"2026-11-01T10:00:00Z","method":"list","complete":true,"staleSeconds":5,"requests":7,
			"estimatedCost":{"currency":"USD","amount":"0.000035"},"requestBudget":{"requestsPerDay":null,"requestsToday":7,"renewsAt":"2026-11-02T00:00:00Z"},
			"folders":[{"depth":1,"biggest":[{"path":"a/","objects":1,"bytes":"2"}],"rest":{"objects":3,"bytes":"4"}}],
			"storageClasses":[{"storageClass":"STANDARD","objects":5,"bytes":"6"}]}`,
		want: purser.SourceUsage{
			Tallies: map[purser.Category]purser.Tally{
				purser.CategoryDataset: tally, purser.CategoryModel: tally, purser.CategoryNotebookWorkspace: tally,
				purser.CategorySharedStorage: tally, purser.CategoryUnmatched: tally,
			},
			MeasuredAt: hour, Method: "list", Complete: true, Requests: 7,
			EstimatedCost: 35, Budget: purser.RequestBudget{Spent: 7, Day: today},
			Folders: []purser.FolderLevel{{
				Biggest: []purser.Folder{{Path: "a/", Amount: purser.Amount{Objects: 1, Bytes: 2}}},
				Rest:    purser.Amount{Objects: 3, Bytes: 4},
			}},
			StorageClasses: []purser.StorageClass{{Name: "STANDARD", Amount: purser.Amount{Objects: 5, Bytes: 6}}},
		},
	},
	{
		name:    "ProviderHealth",
		call:    func(ctx context.Context, c *client.Client) (any, error) { return c.ProviderHealth(ctx, provider.ID) },
		request: "GET /v1/storage-providers/splgct3arqdh77c/health",
		answer: `{"state":"failing","since":"2026-11-01T10:00:00Z","lastCheckedAt":"2026-11-02T00:00:00Z","error":{"code":"c","message":"M.","hint":"H."},
			"detected":{"signingRegion":"eu-west-1","method":"list","addressing":"virtualHost","listVersion":1,"versioned":false},
			"requestBudget":{"requestsPerDay":null,"requestsToday":7,"renewsAt":"2026-11-02T00:00:00Z"}}`,
		want: failing,
	},
	{
		name: "ProviderHealth of a new one",
		call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.ProviderHealth(ctx, bareProvider.ID)
		},
		request: "GET /v1/storage-providers/splgct3arqdh77d/health",
		answer: `{"state":"unknown","since":null,"lastCheckedAt":null,"error":null,"detected":{},
			"requestBudget":{"requestsPerDay":100,"requestsToday":0,"renewsAt":"2026-11-02T00:00:00Z"}}`,
		want: untried,
	},
	{
		name:    "StartScan",
		call:    func(ctx context.Context, c *client.Client) (any, error) { return c.StartScan(ctx, provider.ID) },
		request: "POST /v1/scans",
		body:    `{"providerId":"splgct3arqdh77c"}`,
		answer:  scanJSON,
		want:    scan,
	},
	{
		name:    "StartScans",
		call:    func(ctx context.Context, c *client.Client) (any, error) { return c.StartScans(ctx) },
		request: "POST /v1/scans",
		body:    `{}`,
		answer:  `{"items":[` + scanJSON + `,` + treeScanJSON + `]}`,
		want:    []purser.Scan{scan, treeScan},
	},
	{
		name: "History",
		call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.History(ctx, historyRequest)
		},
		request: "GET /v1/storage-providers/utilization/history?from=2026-11-01T10%3A00%3A00Z&providerId=splgct3arqdh77c&step=day&to=2026-11-02T10%3A00%3A00Z",
		answer:  strings.Replace(historyJSON, "DAYS", "90", 1),
		want:    history,
	},
	{
		name: "History of nothing in particular",
		call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.History(ctx, purser.HistoryRequest{})
		},
		request: "GET /v1/storage-providers/utilization/history",
		answer:  strings.Replace(historyJSON, "DAYS", "null", 1),
		want:    purser.History{Items: history.Items},
	},
	{
		name: "ListScans",
		call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.ListScans(ctx, client.ListOptions{})
		},
		request: "GET /v1/scans",
		answer:  `{"hasMore":false,"items":[` + treeScanJSON + `],"nextPage":null}`,
		want:    client.Page[purser.Scan]{Items: []purser.Scan{treeScan}},
	},
	{
		name:    "GetScan",
		call:    func(ctx context.Context, c *client.Client) (any, error) { return c.GetScan(ctx, scan.ID) },
		request: "GET /v1/scans/scn000000000001",
		answer:  scanJSON,
		want:    scan,
	},
	{
		name:    "CancelScan",
		call:    func(ctx context.Context, c *client.Client) (any, error) { return c.CancelScan(ctx, scan.ID) },
		request: "DELETE /v1/scans/scn000000000001",
		answer:  scanJSON,
		want:    scan,
	},
	{
		name: "ListTeams",
		call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.ListTeams(ctx, client.ListOptions{Limit: 1})
		},
		request: "GET /v1/teams?limit=1",
		answer:  page(teamJSON),
		want:    client.Page[purser.Team]{Items: []purser.Team{team}, Next: "next"},
	},
	{
		name:    "GetTeam",
		call:    func(ctx context.Context, c *client.Client) (any, error) { return c.GetTeam(ctx, team.ID) },
		request: "GET /v1/teams/tea000000000001",
		answer:  teamJSON,
		want:    team,
	},
	{
		name: "CreateTeam with the default plan",
		call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.CreateTeam(ctx, purser.TeamDraft{Name: "Vision", Namespace: "vision"})
		},
		request: "POST /v1/teams",
		body:    `{"name":"Vision","namespace":"vision"}`,
		answer:  teamJSON,
		want:    team,
	},
	{
		name: "UpdateTeam",
		call: func(ctx context.Context, c *client.Client) (any, error) {
			free := purser.Bytes(1 << 40)
			return c.UpdateTeam(ctx, team.ID, purser.TeamDraft{Name: "Vision", Namespace: "vision", TotalFreeStorage: &free})
		},
		request: "PUT /v1/teams/tea000000000001",
		body:    `{"name":"Vision","namespace":"vision","totalFreeStorage":"1099511627776"}`,
		answer:  teamJSON,
		want:    team,
	},
	{
		name: "ListKeys of another team",
		call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.ListKeys(ctx, team.ID, client.ListOptions{})
		},
		request: "GET /v1/api-keys?teamId=tea000000000001",
		answer:  page(keyJSON),
		want:    client.Page[purser.APIKey]{Items: []purser.APIKey{apiKey}, Next: "next"},
	},
	{
		name: "CreateKey",
		call: func(ctx context.Context, c *client.Client) (any, error) {
			made, secret, err := c.CreateKey(ctx, purser.KeyDraft{Name: "jobs", Role: purser.RoleEditor, TeamID: team.ID, ExpiresAt: apiKey.ExpiresAt})
			if secret.Expose() != "psr_new" {
				return secret.Expose(), err
			}
			return made, err
		},
		request: "POST /v1/api-keys",
		body:    `{"name":"jobs","role":"editor","teamId":"tea000000000001","expiresAt":"2027-01-01T00:00:00Z"}`,
		answer:  strings.Replace(keyJSON, `{`, `{"key":"psr_new",`, 1),
		want:    apiKey,
	},
	{
		name:    "RevokeKey",
		call:    func(ctx context.Context, c *client.Client) (any, error) { return nil, c.RevokeKey(ctx, apiKey.ID) },
		request: "DELETE /v1/api-keys/key000000000001",
		answer:  `{"id":"key000000000001"}`,
	},
	{
		name: "ListAuditEvents",
		call: func(ctx context.Context, c *client.Client) (any, error) {
			return c.ListAuditEvents(ctx, client.ListOptions{})
		},
		request: "GET /v1/audit-events",
		answer:  page(eventJSON),
		want:    client.Page[purser.AuditEvent]{Items: []purser.AuditEvent{event}, Next: "next"},
	},
	{
		name:    "Session",
		call:    func(ctx context.Context, c *client.Client) (any, error) { return c.Session(ctx) },
		request: "GET /v1/auth/session",
		answer: `{"team":{"id":"tea000000000001","namespace":"vision","analyticsId":"x","isPrivate":false,"maxMachines":0},"user":{
			"id":"key000000000001","email":"e@keys.invalid","firstName":"jobs","lastName":"","dtCreated":"2026-11-01T10:00:00Z","dtConfirmed":null,
			"isPasswordAuthEnabled":false,"isPhoneVerified":false,"isQrCodeBasedMfaEnabled":false,"isQrCodeBasedMfaConfirmed":false,"metadata":{},"preferences":{},
			"teamMemberships":[{"isAdmin":true,"isOwner":true,"team":{"id":"tea000000000001","name":"Vision","namespace":"vision","isUserTeam":false,
			"dtCreated":"2026-11-01T10:00:00Z","publicProfileImageUrl":null}}],"analyticsId":"x"}}`,
		want: client.Session{
			Key:   purser.APIKey{ID: "key000000000001", TeamID: "tea000000000001", Name: "jobs", CreatedAt: hour},
			Team:  purser.Team{ID: "tea000000000001", Name: "Vision", Namespace: "vision", CreatedAt: hour},
			Owner: true,
		},
	},
	{
		name:    "Session of nobody",
		call:    func(ctx context.Context, c *client.Client) (any, error) { return c.Session(ctx) },
		request: "GET /v1/auth/session",
		answer:  `null`,
		want:    client.Session{},
	},
	{
		name:    "AccountStanding",
		call:    func(ctx context.Context, c *client.Client) (any, error) { return c.AccountStanding(ctx) },
		request: "GET /v1/billing/account-standing",
		answer:  `{"hasPaymentMethod":true,"isAdminLocked":false,"isInGoodStanding":true,"messages":[]}`,
		want:    client.AccountStanding{Good: true, Messages: []string{}},
	},
	{
		name:    "Health",
		call:    func(ctx context.Context, c *client.Client) (any, error) { return nil, c.Health(ctx) },
		request: "GET /v1/health",
		answer:  `"HEALTHY"`,
	},
	{
		name:    "OpenAPI",
		call:    func(ctx context.Context, c *client.Client) (any, error) { return c.OpenAPI(ctx) },
		request: "GET /v1/openapi.json",
		answer:  `{"openapi":"3.1.0"}`,
		want:    []byte(`{"openapi":"3.1.0"}`),
	},
}

func TestOperations(t *testing.T) {
	t.Parallel()
	for _, test := range operations {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var got *http.Request
			var body []byte
			c := connect(t, func(w http.ResponseWriter, r *http.Request) {
				got = r
				body, _ = io.ReadAll(r.Body)
				for name, values := range test.header {
					w.Header()[name] = values
				}
				answer(w, http.StatusOK, test.answer)
			})
			result, err := test.call(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, result); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if sent := got.Method + " " + got.RequestURI; sent != test.request {
				t.Errorf("sent %s, want %s", sent, test.request)
			}
			if diff := cmp.Diff(parse(t, test.body), parse(t, string(body))); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
			checkHeader(t, got)
		})
	}
}

// checkHeader checks what all requests have in common.
func checkHeader(t *testing.T, r *http.Request) {
	t.Helper()
	if got := r.Header.Get("Authorization"); got != "Bearer "+key {
		t.Errorf("Authorization is %q", got)
	}
	if got := r.Header.Get("User-Agent"); got != "purser-go" {
		t.Errorf("User-Agent is %q", got)
	}
	if got := r.Header.Get("Idempotency-Key"); (got != "") != (r.Method == http.MethodPost) {
		t.Errorf("%s with Idempotency-Key %q", r.Method, got)
	}
}

func parse(t *testing.T, text string) any {
	t.Helper()
	if text == "" {
		return nil
	}
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return value
}

func TestConditionsAreSent(t *testing.T) {
	t.Parallel()
	var got []string
	c := connect(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Method+" "+r.Header.Get("If-Match"))
		answer(w, http.StatusPreconditionFailed, `{"code":"PRECONDITION_FAILED","message":"It has changed."}`)
	})
	_, _, err := c.UpdateProvider(t.Context(), provider.ID, draft, client.IfMatch(`"a"`))
	if !client.IsChanged(err) {
		t.Errorf("the update's error is %v", err)
	}
	if err := c.DeleteProvider(t.Context(), provider.ID, client.IfMatch(`"b"`)); !client.IsChanged(err) {
		t.Errorf("the deletion's error is %v", err)
	}
	if err := c.DeleteProvider(t.Context(), provider.ID); !client.IsChanged(err) {
		t.Errorf("the second deletion's error is %v", err)
	}
	if diff := cmp.Diff([]string{`PUT "a"`, `DELETE "b"`, `DELETE `}, got); diff != "" {
		t.Error(diff)
	}
}

func TestBadEndpointIsNotSent(t *testing.T) {
	t.Parallel()
	c := connect(t, func(http.ResponseWriter, *http.Request) { t.Error("something was sent") })
	bad := draft
	bad.S3.Endpoint = "s3.example.com"
	for name, call := range map[string]func() error{
		"create": func() error { _, _, err := c.CreateProvider(t.Context(), bad); return err },
		"update": func() error { _, _, err := c.UpdateProvider(t.Context(), provider.ID, bad); return err },
	} {
		err := call()
		if err == nil || !strings.Contains(err.Error(), "s3Config.endpoint: must be an absolute URL") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestURL(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"http://127.0.0.1:8080":                 "http://127.0.0.1:8080",
		"http://127.0.0.1:8080/":                "http://127.0.0.1:8080",
		"http://127.0.0.1:8080/v1":              "http://127.0.0.1:8080",
		" https://example.com/v1/ ":             "https://example.com",
		"https://example.com/storage/purser":    "https://example.com/storage/purser",
		"https://example.com/storage/purser/v1": "https://example.com/storage/purser",
		"https://[::1]:8080/v1":                 "https://[::1]:8080",
	} {
		c, err := client.New(client.Config{URL: given})
		if err != nil {
			t.Errorf("%q: %v", given, err)
			continue
		}
		if c.URL() != want {
			t.Errorf("%q: got %s, want %s", given, c.URL(), want)
		}
	}
	for _, bad := range []string{"", "127.0.0.1:8080", "localhost", "ftp://example.com", "http://", "http://u:p@example.com", "http://example.com?x=1", "http://example.com#x", "http://a b"} {
		if _, err := client.New(client.Config{URL: bad}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestEach(t *testing.T) {
	t.Parallel()
	var asked []string
	c := connect(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		switch r.URL.Query().Get("after") {
		case "":
			answer(w, http.StatusOK, page(providerJSON))
		default:
			answer(w, http.StatusOK, `{"hasMore":false,"items":[`+bareProviderJSON+`],"nextPage":null}`)
		}
	})
	var got []purser.ProviderID
	for p, err := range c.EachProvider(t.Context(), client.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p.ID)
	}
	if diff := cmp.Diff([]purser.ProviderID{provider.ID, bareProvider.ID}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"limit=120", "after=next&limit=120"}, asked); diff != "" {
		t.Error(diff)
	}
	for _, err := range c.EachProvider(t.Context(), client.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if len(asked) != 3 {
		t.Errorf("a loop that was left early read on: %v", asked)
	}
}

func TestEachEnds(t *testing.T) {
	t.Parallel()
	tests := map[string]http.HandlerFunc{
		"at a page that leads to itself": func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, page(teamJSON)) },
		"at an error": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("after") == "" {
				answer(w, http.StatusOK, page(teamJSON))
				return
			}
			answer(w, http.StatusForbidden, `{"code":"FORBIDDEN","message":"No."}`)
		},
	}
	for name, handler := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var failed error
			for _, err := range connect(t, handler).EachTeam(t.Context(), client.ListOptions{}) {
				if failed != nil {
					t.Fatal("the loop went on after an error")
				}
				failed = err
			}
			if failed == nil {
				t.Error("the loop ended without an error")
			}
		})
	}
}
