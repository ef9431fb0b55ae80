package httpapi

import (
	"net/url"
	"strconv"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/oas"
)

// convertAll converts a list; the result is never nil, for the wire has no
// other way to say "none" than an empty list.
func convertAll[D, W any](items []D, convert func(D) (W, error)) ([]W, error) {
	list := make([]W, 0, len(items))
	for _, item := range items {
		wire, err := convert(item)
		if err != nil {
			return nil, err
		}
		list = append(list, wire)
	}
	return list, nil
}

// toProvider never sees a secret: the domain type holds none.
func toProvider(p purser.Provider) (oas.StorageProvider, error) {
	endpoint, err := toEndpoint(p.S3.Endpoint)
	if err != nil {
		return oas.StorageProvider{}, purser.Wrap("httpapi.toProvider", err)
	}
	return oas.StorageProvider{
		ID:            string(p.ID),
		IsManaged:     p.Managed,
		IsTeamDefault: oas.NewNilBool(p.TeamDefault),
		Name:          p.Name,
		S3Config: oas.S3Config{
			AccessKey:        p.S3.AccessKey,
			Bucket:           p.S3.Bucket,
			Endpoint:         endpoint,
			Region:           nullIfEmpty(p.S3.Region),
			RetainData:       oas.NewOptNilBool(p.S3.RetainData),
			SecretAccessKey:  purser.MaskedSecret,
			SignatureVersion: nullIfEmpty(p.S3.SignatureVersion),
		},
	}, nil
}

func toProviderHeaders(p purser.Provider) (*oas.StorageProviderHeaders, error) {
	provider, err := toProvider(p)
	if err != nil {
		return nil, err
	}
	return &oas.StorageProviderHeaders{ETag: etag(p), Response: provider}, nil
}

// toEndpoint keeps the text as it is: only spellings that survive parsing are
// stored (purser.CheckEndpoint).
func toEndpoint(endpoint string) (oas.OptNilURI, error) {
	if endpoint == "" {
		return oas.OptNilURI{Set: true, Null: true}, nil
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return oas.OptNilURI{}, err
	}
	return oas.NewOptNilURI(*u), nil
}

func nullIfEmpty(s string) oas.OptNilString {
	return oas.OptNilString{Value: s, Set: true, Null: s == ""}
}

func fromProviderCreate(req *oas.StorageProviderCreate) purser.ProviderDraft {
	s3 := &req.S3Config
	return purser.ProviderDraft{
		Name:        string(req.Name),
		TeamDefault: req.IsTeamDefault.Or(false),
		S3:          fromS3Config(s3.AccessKey, s3.Bucket, s3.Endpoint, s3.Region, s3.RetainData, s3.SignatureVersion),
		Secret:      purser.NewSecret(s3.SecretAccessKey),
	}
}

// fromProviderUpdate leaves the secret zero where the client wants to keep the
// stored one.
func fromProviderUpdate(req *oas.StorageProviderUpdate) purser.ProviderDraft {
	s3 := &req.S3Config
	secret := s3.SecretAccessKey.Or("")
	if secret == purser.MaskedSecret {
		secret = ""
	}
	return purser.ProviderDraft{
		Name:        string(req.Name),
		TeamDefault: req.IsTeamDefault,
		S3:          fromS3Config(s3.AccessKey, s3.Bucket, s3.Endpoint, s3.Region, s3.RetainData, s3.SignatureVersion),
		Secret:      purser.NewSecret(secret),
	}
}

func fromS3Config(accessKey oas.AccessKey, bucket oas.Bucket, endpoint oas.OptNilEndpoint, region oas.OptNilRegion,
	retainData oas.OptNilRetainData, signatureVersion oas.OptNilSignatureVersion,
) purser.S3Config {
	c := purser.S3Config{
		Bucket:           string(bucket),
		AccessKey:        string(accessKey),
		Region:           string(region.Or("")),
		RetainData:       bool(retainData.Or(false)),
		SignatureVersion: string(signatureVersion.Or("")),
	}
	if e, given := endpoint.Get(); given {
		u := url.URL(e)
		c.Endpoint = u.String()
	}
	return c
}

func toMetering(rules []purser.MeteringRule) *oas.Metering {
	m := &oas.Metering{Rules: make([]oas.MeteringRule, 0, len(rules))}
	for _, rule := range rules {
		m.Rules = append(m.Rules, oas.MeteringRule{Category: oas.MeteringRuleCategory(rule.Category), Prefix: rule.Prefix})
	}
	return m
}

func fromMetering(m *oas.Metering) []purser.MeteringRule {
	rules := make([]purser.MeteringRule, 0, len(m.Rules))
	for _, rule := range m.Rules {
		rules = append(rules, purser.MeteringRule{Category: purser.Category(rule.Category), Prefix: rule.Prefix})
	}
	return rules
}

func toUtilization(u purser.Utilization) *oas.StorageUtilizationHeaders {
	answer := &oas.StorageUtilizationHeaders{
		PurserUsageState: oas.StorageUtilizationGetPublicOKPurserUsageState(u.State),
		Response: oas.StorageUtilization{
			DatasetUsage:           u.Dataset.String(),
			ModelUsage:             u.Model.String(),
			NotebookWorkspaceUsage: u.NotebookWorkspace.String(),
			RemainingFreeStorage:   u.RemainingFreeStorage().String(),
			SharedStorageUsage:     u.SharedStorage.String(),
			TotalFreeStorage:       u.TotalFreeStorage.String(),
			TotalUsage:             u.Total().String(),
		},
	}
	if !u.MeasuredAt.IsZero() {
		answer.PurserMeasuredAt = oas.NewOptDateTime(u.MeasuredAt.UTC())
	}
	return answer
}

func toProviderUtilization(u purser.SourceUsage, now time.Time) *oas.ProviderUtilization {
	answer := &oas.ProviderUtilization{
		Dataset:           toTally(u.Tallies[purser.CategoryDataset]),
		Model:             toTally(u.Tallies[purser.CategoryModel]),
		NotebookWorkspace: toTally(u.Tallies[purser.CategoryNotebookWorkspace]),
		SharedStorage:     toTally(u.Tallies[purser.CategorySharedStorage]),
		Unmatched:         toTally(u.Tallies[purser.CategoryUnmatched]),
		MeasuredAt:        nullIfZero(u.MeasuredAt),
		Method:            oas.NilString{Value: u.Method, Null: u.Method == ""},
		Complete:          u.Complete,
		StaleSeconds:      oas.NilInt64{Null: true},
		Requests:          u.Requests,
		EstimatedCost:     toCost(u.EstimatedCost),
		RequestBudget:     toRequestBudget(u.Budget),
		Folders:           make([]oas.FolderLevel, 0, len(u.Folders)),
		StorageClasses:    make([]oas.StorageClass, 0, len(u.StorageClasses)),
	}
	for i, level := range u.Folders {
		answer.Folders = append(answer.Folders, toFolderLevel(i+1, level))
	}
	for _, c := range u.StorageClasses {
		answer.StorageClasses = append(answer.StorageClasses, oas.StorageClass{StorageClass: c.Name, Objects: c.Objects, Bytes: c.Bytes.String()})
	}
	if !u.MeasuredAt.IsZero() {
		answer.StaleSeconds = oas.NewNilInt64(max(0, int64(now.Sub(u.MeasuredAt)/time.Second)))
	}
	return answer
}

func toFolderLevel(depth int, l purser.FolderLevel) oas.FolderLevel {
	level := oas.FolderLevel{
		Depth: depth, Biggest: make([]oas.Folder, 0, len(l.Biggest)),
		Rest: oas.Amount{Objects: l.Rest.Objects, Bytes: l.Rest.Bytes.String()},
	}
	for _, f := range l.Biggest {
		level.Biggest = append(level.Biggest, oas.Folder{Path: f.Path, Objects: f.Objects, Bytes: f.Bytes.String()})
	}
	return level
}

func toProviderHealth(h purser.Health) *oas.ProviderHealth {
	d := h.Detected
	answer := &oas.ProviderHealth{
		State:         oas.ProviderHealthState(h.State),
		Since:         nullIfZero(h.Since),
		LastCheckedAt: nullIfZero(h.CheckedAt),
		Error:         toScanError(h.Error),
		Detected: oas.ProviderHealthDetected{
			SigningRegion: oas.OptString{Value: d.Region, Set: d.Region != ""},
			Method:        oas.OptString{Value: h.Method, Set: h.Method != ""},
			Addressing:    oas.OptProviderHealthDetectedAddressing{Value: oas.ProviderHealthDetectedAddressing(d.Addressing), Set: d.Addressing != ""},
			ListVersion:   oas.OptInt{Value: d.ListVersion, Set: d.ListVersion != 0},
		},
		RequestBudget: toRequestBudget(h.Budget),
	}
	if d.Versioned != nil {
		answer.Detected.Versioned = oas.NewOptBool(*d.Versioned)
	}
	return answer
}

func toScanError(e *purser.ScanError) oas.NilScanError {
	if e == nil {
		return oas.NilScanError{Null: true}
	}
	return oas.NewNilScanError(oas.ScanError{Code: e.Code, Message: e.Message, Hint: e.Hint})
}

func toCost(c purser.Cost) oas.Cost {
	return oas.Cost{Currency: oas.CostCurrencyUSD, Amount: c.String()}
}

func toRequestBudget(b purser.RequestBudget) oas.RequestBudget {
	return oas.RequestBudget{
		RequestsPerDay: oas.NilInt64{Value: b.PerDay, Null: b.PerDay == 0},
		RequestsToday:  b.Spent,
		RenewsAt:       b.RenewsAt().UTC(),
	}
}

func fromHistoryParams(params oas.StorageUtilizationHistoryParams) purser.HistoryRequest {
	q := purser.HistoryRequest{
		From: params.From.Or(time.Time{}),
		To:   params.To.Or(time.Time{}),
		Step: purser.Step(params.Step.Or(oas.StorageUtilizationHistoryStepHour)),
	}
	if id, named := params.ProviderId.Get(); named {
		q.Provider = purser.ProviderID(cleanID(id))
	}
	return q
}

func toHistory(h purser.History) *oas.UtilizationHistory {
	answer := &oas.UtilizationHistory{Items: make([]oas.UtilizationHistoryItem, 0, len(h.Items)), DaysUntilFull: oas.NilInt{Null: true}}
	if h.DaysUntilFull != nil {
		answer.DaysUntilFull = oas.NewNilInt(*h.DaysUntilFull)
	}
	for _, item := range h.Items {
		answer.Items = append(answer.Items, oas.UtilizationHistoryItem{
			At:                     item.At.UTC(),
			DatasetUsage:           item.Dataset.String(),
			ModelUsage:             item.Model.String(),
			NotebookWorkspaceUsage: item.NotebookWorkspace.String(),
			SharedStorageUsage:     item.SharedStorage.String(),
			TotalUsage:             item.Total().String(),
			ByteHours: oas.ByteHours{
				Dataset:           item.ByteHours.Dataset.String(),
				Model:             item.ByteHours.Model.String(),
				NotebookWorkspace: item.ByteHours.NotebookWorkspace.String(),
				SharedStorage:     item.ByteHours.SharedStorage.String(),
				Total:             item.ByteHours.Total().String(),
			},
			Complete: item.Complete,
		})
	}
	return answer
}

func toTally(t purser.Tally) oas.Tally {
	return oas.Tally{
		Objects:    t.Objects,
		Current:    t.Current.String(),
		Noncurrent: t.Noncurrent.String(),
		Unfinished: t.Unfinished.String(),
	}
}

func nullIfZero(t time.Time) oas.NilDateTime {
	return oas.NilDateTime{Value: t.UTC(), Null: t.IsZero()}
}

func toScan(s purser.Scan) oas.Scan {
	scan := oas.Scan{
		ID:            string(s.ID),
		ProviderId:    oas.NilString{Value: string(s.ProviderID), Null: s.ProviderID == ""},
		Source:        s.Source,
		State:         oas.ScanState(s.State),
		Objects:       s.Objects,
		Bytes:         s.Bytes.String(),
		Requests:      s.Requests,
		EstimatedCost: oas.NilCost{Value: toCost(s.EstimatedCost), Null: s.ProviderID == ""},
		RequestBudget: oas.NilRequestBudget{Null: true},
		StartedAt:     nullIfZero(s.StartedAt),
		FinishedAt:    nullIfZero(s.FinishedAt),
		Error:         toScanError(s.Error),
	}
	if s.Budget != nil {
		scan.RequestBudget = oas.NewNilRequestBudget(toRequestBudget(*s.Budget))
	}
	return scan
}

func toScans(scans []purser.Scan) []oas.Scan {
	list := make([]oas.Scan, 0, len(scans))
	for _, scan := range scans {
		list = append(list, toScan(scan))
	}
	return list
}

func toTeam(t purser.Team) *oas.Team {
	return &oas.Team{
		ID:               string(t.ID),
		Name:             t.Name,
		Namespace:        t.Namespace,
		TotalFreeStorage: t.TotalFreeStorage.String(),
		DtCreated:        t.CreatedAt.UTC(),
	}
}

func fromTeam(req *oas.TeamWrite) (purser.TeamDraft, error) {
	draft := purser.TeamDraft{Name: string(req.Name), Namespace: req.Namespace}
	if text, given := req.TotalFreeStorage.Get(); given {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return draft, purser.Wrap("httpapi.fromTeam", err)
		}
		amount := purser.Bytes(n)
		draft.TotalFreeStorage = &amount
	}
	return draft, nil
}

func toKey(k purser.APIKey) oas.ApiKey {
	return oas.ApiKey{
		ID:         string(k.ID),
		Name:       k.Name,
		Role:       oas.Role(k.Role),
		TeamId:     string(k.TeamID),
		DtCreated:  k.CreatedAt.UTC(),
		ExpiresAt:  nullIfZero(k.ExpiresAt),
		LastUsedAt: nullIfZero(k.LastUsedAt),
	}
}

// toKeyCreated exposes the key: this answer is the only place where it is shown.
func toKeyCreated(k purser.APIKey, secret purser.Secret) *oas.ApiKeyCreated {
	key := toKey(k)
	return &oas.ApiKeyCreated{
		ID:         key.ID,
		Key:        secret.Expose(),
		Name:       key.Name,
		Role:       key.Role,
		TeamId:     key.TeamId,
		DtCreated:  key.DtCreated,
		ExpiresAt:  key.ExpiresAt,
		LastUsedAt: key.LastUsedAt,
	}
}

func fromKey(req *oas.ApiKeyCreate) purser.KeyDraft {
	draft := purser.KeyDraft{Name: string(req.Name), Role: purser.Role(req.Role)}
	if id, named := req.TeamId.Get(); named {
		draft.TeamID = purser.TeamID(cleanID(id))
	}
	if at, given := req.ExpiresAt.Get(); given {
		draft.ExpiresAt = at.UTC()
	}
	return draft
}

func toAuditEvent(e purser.AuditEvent) oas.AuditEvent {
	fields := e.Fields
	if fields == nil {
		fields = []string{}
	}
	return oas.AuditEvent{
		ID:            string(e.ID),
		At:            e.At.UTC(),
		TeamId:        string(e.TeamID),
		Actor:         e.Actor,
		Action:        e.Action,
		Target:        e.Target,
		Result:        oas.AuditEventResult(e.Result),
		RequestId:     e.RequestID,
		SourceAddress: e.SourceAddress,
		Fields:        fields,
	}
}

// toSession presents the API key as the user that clients of the hosted API
// expect: Purser knows no persons yet. The address ends in a name that can
// never exist (RFC 2606).
func toSession(t purser.Team, k purser.APIKey) oas.Session {
	owner := k.Role == purser.RoleOwner || k.Role == purser.RoleOperator
	return oas.Session{
		Team: oas.SessionTeam{ID: string(t.ID), Namespace: t.Namespace, AnalyticsId: string(t.ID)},
		User: oas.SessionUser{
			ID:          string(k.ID),
			Email:       string(k.ID) + "@keys.invalid",
			FirstName:   k.Name,
			DtCreated:   k.CreatedAt.UTC(),
			DtConfirmed: nullIfZero(k.CreatedAt),
			TeamMemberships: []oas.SessionUserTeamMembershipsItem{{
				IsAdmin: owner,
				IsOwner: owner,
				Team: oas.SessionUserTeamMembershipsItemTeam{
					ID:                    string(t.ID),
					Name:                  t.Name,
					Namespace:             t.Namespace,
					DtCreated:             t.CreatedAt.UTC(),
					PublicProfileImageUrl: oas.NilString{Null: true},
				},
			}},
			AnalyticsId: string(k.ID),
		},
	}
}
