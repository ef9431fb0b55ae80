package providers_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/auth"
	"github.com/purserhq/purser/internal/change"
	"github.com/purserhq/purser/internal/providers"
	"github.com/purserhq/purser/internal/seal"
	"github.com/purserhq/purser/internal/store"
)

type fixture struct {
	*providers.Service
	store   *store.Store
	keyring *seal.Keyring
	now     time.Time
	editor  auth.Principal
}

func setup(t *testing.T) *fixture {
	t.Helper()
	dir := t.TempDir()
	s, err := store.OpenSQLite(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	f := &fixture{store: s, now: time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)}
	if f.keyring, err = seal.Open(t.Context(), seal.Options{Keysets: s, KeyFile: filepath.Join(dir, "seal.key")}); err != nil {
		t.Fatal(err)
	}
	f.Service = providers.New(providers.Options{
		Store: s, Changes: change.NewMaker(s, f.keyring, func() time.Time { f.now = f.now.Add(time.Second); return f.now }),
		Sealer: f.keyring, Sites: purser.NewSites(),
		CheckAddress: func(endpoint string) string {
			if strings.Contains(endpoint, "127.0.0.1") {
				return "must not point there"
			}
			return ""
		},
	})
	f.editor = f.team(t, "vision")
	return f
}

// team makes a team and returns an editor of it.
func (f *fixture) team(t *testing.T, namespace string) auth.Principal {
	t.Helper()
	team := purser.Team{ID: purser.NewTeamID(), Name: namespace, Namespace: namespace, TotalFreeStorage: 1000, CreatedAt: f.now}
	if err := f.store.InTx(t.Context(), func(tx *store.Tx) error { return tx.CreateTeam(t.Context(), team) }); err != nil {
		t.Fatal(err)
	}
	return auth.Principal{KeyID: purser.NewKeyID(), TeamID: team.ID, Role: purser.RoleEditor}
}

func draft() purser.ProviderDraft {
	return purser.ProviderDraft{
		Name: " Training data ", S3: purser.S3Config{Endpoint: "https://s3.example.com", Bucket: "training", AccessKey: "AKIA", RetainData: true},
		Secret: purser.NewSecret("first secret"),
	}
}

func (f *fixture) create(t *testing.T, d purser.ProviderDraft) purser.Provider {
	t.Helper()
	p, err := f.Create(t.Context(), f.editor, d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// secret opens the stored secret as the worker that measures does.
func (f *fixture) secret(t *testing.T, id purser.ProviderID) string {
	t.Helper()
	c, err := f.store.GetCredential(t.Context(), f.editor.TeamID, id)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := f.keyring.Open(c.Sealed, seal.Binding{Team: f.editor.TeamID, Provider: id, Field: seal.SecretAccessKey, Version: c.Version})
	if err != nil {
		t.Fatal(err)
	}
	return secret.Expose()
}

func (f *fixture) lastEvent(t *testing.T) purser.AuditEvent {
	t.Helper()
	page, err := f.store.ListAudit(t.Context(), f.editor.TeamID, purser.PageRequest{Limit: 1})
	if err != nil || len(page.Items) == 0 {
		t.Fatalf("no audit event: %v", err)
	}
	return page.Items[0]
}

func TestCreate(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := f.create(t, draft())
	if p.Name != "Training data" || p.Version != 1 || p.Managed || p.TeamDefault || !purser.ValidID(string(p.ID)) {
		t.Errorf("created %+v", p)
	}
	got, err := f.Get(t.Context(), f.editor, p.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, got); diff != "" {
		t.Errorf("what was answered is not what is stored: %s", diff)
	}
	if f.secret(t, p.ID) != "first secret" {
		t.Error("the secret does not open to what was given")
	}
	if e := f.lastEvent(t); e.Action != "provider.create" || e.Target != string(p.ID) ||
		!slices.Equal(e.Fields, []string{"name", "accessKey", "bucket", "endpoint", "retainData", "secretAccessKey"}) {
		t.Errorf("recorded %+v", e)
	}
	source, err := f.store.GetSourceOfProvider(t.Context(), f.editor.TeamID, p.ID)
	if err != nil || source.DueAt.After(f.now) {
		t.Errorf("the bucket is not due for its first measurement: %+v, %v", source, err)
	}
	usage, err := f.store.GetTeamUsage(t.Context(), f.editor.TeamID)
	if err != nil || usage.PendingSources != 1 {
		t.Errorf("%+v, %v: a bucket never measured must show as pending", usage, err)
	}
}

// TestKeepingTheSecret is the table of which changes a stored secret survives:
// one that could point it at a stranger's server needs a new one.
func TestKeepingTheSecret(t *testing.T) {
	t.Parallel()
	moves := []struct {
		name  string
		place bool
		apply func(*purser.S3Config)
	}{
		{"endpoint", true, func(c *purser.S3Config) { c.Endpoint = "https://evil.example" }},
		{"bucket", true, func(c *purser.S3Config) { c.Bucket = "other" }},
		{"accessKey", false, func(c *purser.S3Config) { c.AccessKey = "AKIB" }},
		{"region", true, func(c *purser.S3Config) { c.Region = "ny2" }},
	}
	f := setup(t)
	for mask := range 1 << len(moves) {
		for _, given := range []bool{false, true} {
			t.Run(fmt.Sprintf("%04b secret given %t", mask, given), func(t *testing.T) {
				p := f.create(t, draft())
				d := draft()
				d.Secret = purser.Secret{}
				moved, fields := false, []string(nil)
				for i, move := range moves {
					if mask&(1<<i) != 0 {
						move.apply(&d.S3)
						moved, fields = true, append(fields, move.name)
					}
				}
				want := "first secret"
				if given {
					d.Secret, want = purser.NewSecret("second secret"), "second secret"
				}
				_, err := f.Update(t.Context(), f.editor, p.ID, d, nil)
				if moved && !given {
					var e *purser.Error
					if !errors.As(err, &e) || e.Kind != purser.KindInvalid || e.Details["/s3Config/secretAccessKey"] == "" {
						t.Fatalf("a change of %v kept the secret: %v", fields, err)
					}
					if stored, err := f.Get(t.Context(), f.editor, p.ID); err != nil || stored.S3 != p.S3 {
						t.Errorf("a refused change left %+v, %v", stored, err)
					}
				} else if err != nil {
					t.Fatal(err)
				}
				if got := f.secret(t, p.ID); got != want {
					t.Errorf("the secret is now %q, want %q", got, want)
				}
			})
		}
	}
}

func TestUpdateReplacesEverything(t *testing.T) {
	t.Parallel()
	f := setup(t)
	d := draft()
	d.S3.SignatureVersion = "v2"
	p := f.create(t, d)
	after, err := f.Update(t.Context(), f.editor, p.ID, purser.ProviderDraft{
		Name: "New", S3: purser.S3Config{Endpoint: "https://s3.example.com", Bucket: "training", AccessKey: "AKIA"},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if after.Name != "New" || after.S3.RetainData || after.S3.SignatureVersion != "" || after.Version != 2 || after.CreatedAt != p.CreatedAt {
		t.Errorf("%+v", after)
	}
	if e := f.lastEvent(t); !slices.Equal(e.Fields, []string{"name", "retainData", "signatureVersion"}) {
		t.Errorf("recorded fields %v", e.Fields)
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := f.create(t, draft())
	never := func(purser.Provider) bool { return false }
	if _, err := f.Update(t.Context(), f.editor, p.ID, draft(), never); purser.KindOf(err) != purser.KindPreconditionFailed {
		t.Errorf("Update = %v", err)
	}
	if err := f.Delete(t.Context(), f.editor, p.ID, never); purser.KindOf(err) != purser.KindPreconditionFailed {
		t.Errorf("Delete = %v", err)
	}
	if err := f.Delete(t.Context(), f.editor, p.ID, func(q purser.Provider) bool { return q.Version == 1 }); err != nil {
		t.Errorf("Delete = %v", err)
	}
}

func TestTeamDefault(t *testing.T) {
	t.Parallel()
	f := setup(t)
	defaults := func() (ids []purser.ProviderID) {
		page, err := f.List(t.Context(), f.editor, purser.PageRequest{Limit: 100, Ascending: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range page.Items {
			if p.TeamDefault {
				ids = append(ids, p.ID)
			}
		}
		return ids
	}
	first := f.create(t, draft())
	if len(defaults()) != 0 {
		t.Error("the first provider became the default by itself")
	}
	d := draft()
	d.TeamDefault = true
	second := f.create(t, d)
	if got := defaults(); !slices.Equal(got, []purser.ProviderID{second.ID}) {
		t.Errorf("defaults: %v", got)
	}
	if _, err := f.Update(t.Context(), f.editor, first.ID, d, nil); err != nil {
		t.Fatal(err)
	}
	if got := defaults(); !slices.Equal(got, []purser.ProviderID{first.ID}) {
		t.Errorf("defaults after the switch: %v", got)
	}
	if stored, err := f.Get(t.Context(), f.editor, second.ID); err != nil || stored.Version != 2 {
		t.Errorf("the former default must have a new version: %+v, %v", stored, err)
	}
	if err := f.Delete(t.Context(), f.editor, first.ID, nil); err != nil || len(defaults()) != 0 {
		t.Errorf("deleting the default: %v, defaults %v", err, defaults())
	}
}

func TestDeleteIsFinal(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := f.create(t, draft())
	if err := f.Delete(t.Context(), f.editor, p.ID, nil); err != nil {
		t.Fatal(err)
	}
	_, get := f.Get(t.Context(), f.editor, p.ID)
	_, update := f.Update(t.Context(), f.editor, p.ID, draft(), nil)
	for _, err := range []error{get, update, f.Delete(t.Context(), f.editor, p.ID, nil)} {
		if purser.KindOf(err) != purser.KindNotFound {
			t.Errorf("after deletion: %v", err)
		}
	}
	if usage, err := f.store.GetTeamUsage(t.Context(), f.editor.TeamID); err != nil || usage.PendingSources != 0 {
		t.Errorf("its source is still there: %+v, %v", usage, err)
	}
}

func TestManaged(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := purser.Provider{
		ID: purser.NewProviderID(), TeamID: f.editor.TeamID, Name: "Managed", Managed: true, S3: draft().S3,
		Version: 1, CreatedAt: f.now, UpdatedAt: f.now,
	}
	err := f.store.InTx(t.Context(), func(tx *store.Tx) error {
		return errors.Join(tx.CreateProvider(t.Context(), p, []byte("sealed")),
			tx.CreateSource(t.Context(), store.Source{TeamID: p.TeamID, ID: purser.NewSourceID(), ProviderID: p.ID, DueAt: f.now}))
	})
	if err != nil {
		t.Fatal(err)
	}
	d := purser.ProviderDraft{Name: "Ours", TeamDefault: true, S3: p.S3}
	if after, err := f.Update(t.Context(), f.editor, p.ID, d, nil); err != nil || after.Name != "Ours" || !after.TeamDefault || !after.Managed {
		t.Errorf("name and default may change: %+v, %v", after, err)
	}
	moved := d
	moved.S3.RetainData = false
	secret := d
	secret.Secret = purser.NewSecret("x")
	for name, refused := range map[string]purser.ProviderDraft{"config": moved, "secret": secret} {
		if _, err := f.Update(t.Context(), f.editor, p.ID, refused, nil); purser.KindOf(err) != purser.KindPermissionDenied {
			t.Errorf("change of %s: %v", name, err)
		}
	}
	if err := f.Delete(t.Context(), f.editor, p.ID, nil); purser.KindOf(err) != purser.KindPermissionDenied {
		t.Errorf("Delete: %v", err)
	}
}

func TestStrangersSeeNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := f.create(t, draft())
	stranger := f.team(t, "sound")
	ctx := t.Context()
	for name, call := range map[string]func(auth.Principal, purser.ProviderID) error{
		"get": func(a auth.Principal, id purser.ProviderID) error { _, err := f.Get(ctx, a, id); return err },
		"update": func(a auth.Principal, id purser.ProviderID) error {
			_, err := f.Update(ctx, a, id, draft(), nil)
			return err
		},
		"delete": func(a auth.Principal, id purser.ProviderID) error { return f.Delete(ctx, a, id, nil) },
		"rules":  func(a auth.Principal, id purser.ProviderID) error { _, err := f.MeteringRules(ctx, a, id); return err },
		"set rules": func(a auth.Principal, id purser.ProviderID) error {
			_, err := f.SetMeteringRules(ctx, a, id, nil)
			return err
		},
	} {
		foreign, unknown := message(call(stranger, p.ID)), message(call(stranger, purser.NewProviderID()))
		if foreign == "" || foreign != unknown {
			t.Errorf("%s: another team's id says %q, an unknown one %q", name, foreign, unknown)
		}
	}
	if page, err := f.List(ctx, stranger, purser.PageRequest{Limit: 10}); err != nil || len(page.Items) != 0 {
		t.Errorf("a stranger lists %+v, %v", page, err)
	}
	if _, err := f.Get(ctx, f.editor, p.ID); err != nil {
		t.Errorf("a stranger did something: %v", err)
	}
}

func message(err error) string {
	var e *purser.Error
	if errors.As(err, &e) && e.Kind == purser.KindNotFound {
		return e.Message
	}
	return ""
}

func TestViewersOnlyRead(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := f.create(t, draft())
	viewer := f.editor
	viewer.Role = purser.RoleViewer
	ctx := t.Context()
	_, create := f.Create(ctx, viewer, draft())
	_, update := f.Update(ctx, viewer, p.ID, draft(), nil)
	_, rules := f.SetMeteringRules(ctx, viewer, p.ID, nil)
	for _, err := range []error{create, update, rules, f.Delete(ctx, viewer, p.ID, nil)} {
		if purser.KindOf(err) != purser.KindPermissionDenied {
			t.Errorf("a viewer may change: %v", err)
		}
	}
	if _, err := f.Get(ctx, viewer, p.ID); err != nil {
		t.Error(err)
	}
}

// TestMovingForgetsTheFigures proves that a team is not charged for what is in
// a bucket that it no longer has registered.
func TestMovingForgetsTheFigures(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := f.create(t, draft())
	source, err := f.store.GetSourceOfProvider(t.Context(), f.editor.TeamID, p.ID)
	if err != nil {
		t.Fatal(err)
	}
	publish := func(ctx context.Context) {
		t.Helper()
		err := f.store.InTx(ctx, func(tx *store.Tx) error {
			return errors.Join(tx.PublishSource(ctx, p.TeamID, source.ID, purser.SourceUsage{
				Tallies: map[purser.Category]purser.Tally{purser.CategoryDataset: {Objects: 1, Current: 10}}, MeasuredAt: f.now, Method: "list",
			}), tx.RefreshTeamUsage(ctx, p.TeamID))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	dataset := func() purser.Bytes {
		usage, err := f.store.GetTeamUsage(t.Context(), p.TeamID)
		if err != nil {
			t.Fatal(err)
		}
		return usage.Dataset
	}
	publish(t.Context())
	rotated := draft()
	rotated.S3.AccessKey, rotated.Secret = "AKIB", purser.NewSecret("second")
	if _, err := f.Update(t.Context(), f.editor, p.ID, rotated, nil); err != nil || dataset() != 10 {
		t.Errorf("a new key for the same bucket: %v, dataset %d", err, dataset())
	}
	rotated.S3.Bucket = "other"
	if _, err := f.Update(t.Context(), f.editor, p.ID, rotated, nil); err != nil || dataset() != 0 {
		t.Errorf("another bucket: %v, dataset %d", err, dataset())
	}
	publish(t.Context())
	if err := f.Delete(t.Context(), f.editor, p.ID, nil); err != nil || dataset() != 0 {
		t.Errorf("deletion: %v, dataset %d", err, dataset())
	}
}

func TestRulesAreKept(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := f.create(t, draft())
	rules := []purser.MeteringRule{{Category: purser.CategoryDataset, Prefix: "corpora/"}, {Category: purser.CategoryModel, Prefix: ""}}
	if _, err := f.SetMeteringRules(t.Context(), f.editor, p.ID, rules); err != nil {
		t.Fatal(err)
	}
	got, err := f.MeteringRules(t.Context(), f.editor, p.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rules, got); diff != "" {
		t.Error(diff)
	}
}

func TestChecks(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if f.CheckEndpoint("https://s3.example.com") != "" || f.CheckEndpoint("s3.example.com") == "" || f.CheckEndpoint("https://127.0.0.1") == "" {
		t.Error("form and address must both be right")
	}
	if f.CheckSite("ny2") != "" || f.CheckSite("eu-west-1") == "" {
		t.Error("only known sites")
	}
}

// TestHealthIsOfWhatThereIs: what was found out about a bucket is forgotten when
// another one, or another way to it, takes its place.
func TestHealthIsOfWhatThereIs(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, c := range []struct {
		name   string
		change func(*purser.ProviderDraft)
		keeps  bool
	}{
		{"name", func(d *purser.ProviderDraft) { d.Name = "Other" }, true},
		{"fate of the data", func(d *purser.ProviderDraft) { d.S3.RetainData = !d.S3.RetainData }, true},
		{"secret", func(d *purser.ProviderDraft) { d.Secret = purser.NewSecret("second secret") }, false},
		{"signature", func(d *purser.ProviderDraft) { d.S3.SignatureVersion = "v2" }, false},
		{"access key", func(d *purser.ProviderDraft) { d.S3.AccessKey, d.Secret = "AKIB", purser.NewSecret("x") }, false},
		{"bucket", func(d *purser.ProviderDraft) { d.S3.Bucket, d.Secret = "other", purser.NewSecret("x") }, false},
		{"endpoint", func(d *purser.ProviderDraft) { d.S3.Endpoint, d.Secret = "", purser.NewSecret("x") }, false},
		{"region", func(d *purser.ProviderDraft) { d.S3.Region, d.Secret = "ny2", purser.NewSecret("x") }, false},
	} {
		p := f.create(t, draft())
		problem := &purser.ScanError{Code: "no_such_bucket"}
		err := f.store.InTx(t.Context(), func(tx *store.Tx) error {
			s, err := tx.GetSourceOfProvider(t.Context(), p.TeamID, p.ID)
			return errors.Join(err, tx.SetHealth(t.Context(), p.TeamID, s.ID, purser.HealthFailing, problem, f.now))
		})
		if err != nil {
			t.Fatal(err)
		}
		d := draft()
		d.Secret = purser.Secret{}
		c.change(&d)
		if _, err := f.Update(t.Context(), f.editor, p.ID, d, nil); err != nil {
			t.Fatal(err)
		}
		h, err := f.store.GetHealth(t.Context(), p.TeamID, p.ID)
		if err != nil || (h.State == purser.HealthUnknown) == c.keeps || (h.Error == nil) == c.keeps || h.Since.IsZero() == c.keeps {
			t.Errorf("another %s: %+v, %v", c.name, h, err)
		}
	}
}
