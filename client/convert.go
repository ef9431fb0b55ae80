package client

import (
	"net/url"
	"strconv"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/oas"
)

func fromProvider(p oas.StorageProvider) (purser.Provider, error) {
	c := p.S3Config
	provider := purser.Provider{
		ID:          purser.ProviderID(p.ID),
		Name:        p.Name,
		Managed:     p.IsManaged,
		TeamDefault: p.IsTeamDefault.Or(false),
		S3: purser.S3Config{
			Bucket:           c.Bucket,
			AccessKey:        c.AccessKey,
			Region:           c.Region.Or(""),
			RetainData:       c.RetainData.Or(false),
			SignatureVersion: c.SignatureVersion.Or(""),
		},
	}
	if endpoint, given := c.Endpoint.Get(); given {
		provider.S3.Endpoint = endpoint.String()
	}
	return provider, nil
}

func toProviderCreate(d purser.ProviderDraft) (*oas.StorageProviderCreate, error) {
	endpoint, err := toEndpoint(d.S3.Endpoint)
	if err != nil {
		return nil, err
	}
	return &oas.StorageProviderCreate{
		IsTeamDefault: oas.NewOptBool(d.TeamDefault),
		Name:          oas.Name(d.Name),
		S3Config: oas.StorageProviderCreateS3Config{
			AccessKey:        oas.AccessKey(d.S3.AccessKey),
			Bucket:           oas.Bucket(d.S3.Bucket),
			Endpoint:         endpoint,
			Region:           toRegion(d.S3.Region),
			RetainData:       oas.NewOptNilRetainData(oas.RetainData(d.S3.RetainData)),
			SecretAccessKey:  d.Secret.Expose(),
			SignatureVersion: toSignatureVersion(d.S3.SignatureVersion),
		},
		StorageProviderType: purser.ProviderKindS3,
	}, nil
}

func toProviderUpdate(d purser.ProviderDraft) (*oas.StorageProviderUpdate, error) {
	endpoint, err := toEndpoint(d.S3.Endpoint)
	if err != nil {
		return nil, err
	}
	return &oas.StorageProviderUpdate{
		IsTeamDefault: d.TeamDefault,
		Name:          oas.Name(d.Name),
		S3Config: oas.StorageProviderUpdateS3Config{
			AccessKey:        oas.AccessKey(d.S3.AccessKey),
			Bucket:           oas.Bucket(d.S3.Bucket),
			Endpoint:         endpoint,
			Region:           toRegion(d.S3.Region),
			RetainData:       oas.NewOptNilRetainData(oas.RetainData(d.S3.RetainData)),
			SecretAccessKey:  oas.OptNilString{Value: d.Secret.Expose(), Set: !d.Secret.IsZero()},
			SignatureVersion: toSignatureVersion(d.S3.SignatureVersion),
		},
	}, nil
}

// toEndpoint refuses what would not reach the server as it was written: the
// generated type is a parsed URL.
func toEndpoint(endpoint string) (oas.OptNilEndpoint, error) {
	if endpoint == "" {
		return oas.OptNilEndpoint{Set: true, Null: true}, nil
	}
	u, err := url.Parse(endpoint)
	if fault := purser.CheckEndpoint(endpoint); fault != "" || err != nil {
		return oas.OptNilEndpoint{}, &Error{
			Code:    "BAD_REQUEST",
			Message: "s3Config.endpoint: " + fault,
			Details: map[string]string{"/s3Config/endpoint": fault},
		}
	}
	return oas.NewOptNilEndpoint(oas.Endpoint(*u)), nil
}

func toRegion(region string) oas.OptNilRegion {
	return oas.OptNilRegion{Value: oas.Region(region), Set: true, Null: region == ""}
}

func toSignatureVersion(version string) oas.OptNilSignatureVersion {
	return oas.OptNilSignatureVersion{Value: oas.SignatureVersion(version), Set: true, Null: version == ""}
}

func fromMetering(m *oas.Metering) ([]purser.MeteringRule, error) {
	rules := make([]purser.MeteringRule, 0, len(m.Rules))
	for _, rule := range m.Rules {
		rules = append(rules, purser.MeteringRule{Category: purser.Category(rule.Category), Prefix: rule.Prefix})
	}
	return rules, nil
}

func toMetering(rules []purser.MeteringRule) *oas.Metering {
	m := &oas.Metering{Rules: make([]oas.MeteringRule, 0, len(rules))}
	for _, rule := range rules {
		m.Rules = append(m.Rules, oas.MeteringRule{Category: oas.MeteringRuleCategory(rule.Category), Prefix: rule.Prefix})
	}
	return m
}

// amounts reads amounts of storage one after the other and remembers whether
// one of them was none.
type amounts struct{ err error }

func (a *amounts) read(digits string) purser.Bytes {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		a.err = errUnfit
	}
	return purser.Bytes(n)
}

func (a *amounts) cost(c oas.Cost) purser.Cost {
	cost, err := purser.ParseCost(c.Amount)
	if err != nil {
		a.err = errUnfit
	}
	return cost
}

// fault is a method, and not just the field, because calls are made in the order
// they are written in, and fields are read whenever.
func (a *amounts) fault() error { return a.err }

func fromUtilization(answer *oas.StorageUtilizationHeaders) (purser.Utilization, error) {
	var (
		read amounts
		u    = answer.Response
	)
	return purser.Utilization{
		Usage: purser.Usage{
			Dataset:           read.read(u.DatasetUsage),
			Model:             read.read(u.ModelUsage),
			NotebookWorkspace: read.read(u.NotebookWorkspaceUsage),
			SharedStorage:     read.read(u.SharedStorageUsage),
		},
		TotalFreeStorage: read.read(u.TotalFreeStorage),
		MeasuredAt:       answer.PurserMeasuredAt.Or(time.Time{}),
		State:            purser.UsageState(answer.PurserUsageState),
	}, read.fault()
}

func fromProviderUtilization(u *oas.ProviderUtilization) (purser.SourceUsage, error) {
	var read amounts
	tally := func(t oas.Tally) purser.Tally {
		return purser.Tally{
			Objects:    t.Objects,
			Current:    read.read(t.Current),
			Noncurrent: read.read(t.Noncurrent),
			Unfinished: read.read(t.Unfinished),
		}
	}
	amount := func(objects int64, bytes string) purser.Amount {
		return purser.Amount{Objects: objects, Bytes: read.read(bytes)}
	}
	var levels []purser.FolderLevel
	for _, l := range u.Folders {
		level := purser.FolderLevel{Rest: amount(l.Rest.Objects, l.Rest.Bytes)}
		for _, f := range l.Biggest {
			level.Biggest = append(level.Biggest, purser.Folder{Path: f.Path, Amount: amount(f.Objects, f.Bytes)})
		}
		levels = append(levels, level)
	}
	var classes []purser.StorageClass
	for _, c := range u.StorageClasses {
		classes = append(classes, purser.StorageClass{Name: c.StorageClass, Amount: amount(c.Objects, c.Bytes)})
	}
	return purser.SourceUsage{
		Tallies: map[purser.Category]purser.Tally{
			purser.CategoryDataset:           tally(u.Dataset),
			purser.CategoryModel:             tally(u.Model),
			purser.CategoryNotebookWorkspace: tally(u.NotebookWorkspace),
			purser.CategorySharedStorage:     tally(u.SharedStorage),
			purser.CategoryUnmatched:         tally(u.Unmatched),
		},
		MeasuredAt: orZero(u.MeasuredAt),
		Method:     u.Method.Or(""),
		Complete:   u.Complete,
		Requests:   u.Requests,

		EstimatedCost:  read.cost(u.EstimatedCost),
		Budget:         fromRequestBudget(u.RequestBudget),
		Folders:        levels,
		StorageClasses: classes,
	}, read.fault()
}

func fromProviderHealth(h *oas.ProviderHealth) (purser.Health, error) {
	d := h.Detected
	health := purser.Health{
		State:     purser.HealthState(h.State),
		Since:     orZero(h.Since),
		CheckedAt: orZero(h.LastCheckedAt),
		Error:     fromScanError(h.Error),
		Method:    d.Method.Or(""),
		Detected: purser.Detected{
			Region:      d.SigningRegion.Or(""),
			Addressing:  purser.Addressing(d.Addressing.Or("")),
			ListVersion: d.ListVersion.Or(0),
		},
		Budget: fromRequestBudget(h.RequestBudget),
	}
	if versioned, known := d.Versioned.Get(); known {
		health.Detected.Versioned = &versioned
	}
	return health, nil
}

func fromScanError(e oas.NilScanError) *purser.ScanError {
	if problem, given := e.Get(); given {
		return &purser.ScanError{Code: problem.Code, Message: problem.Message, Hint: problem.Hint}
	}
	return nil
}

func fromRequestBudget(b oas.RequestBudget) purser.RequestBudget {
	return purser.RequestBudget{
		PerDay: b.RequestsPerDay.Or(0),
		Spent:  b.RequestsToday,
		Day:    b.RenewsAt.Add(-purser.StepDay.Duration()),
	}
}

func fromHistory(answer oas.StorageUtilizationHistoryRes) (purser.History, error) {
	h, is := answer.(*oas.UtilizationHistory)
	if !is {
		return purser.History{}, errUnfit // CSV, which nobody asked for
	}
	var read amounts
	history := purser.History{Items: make([]purser.HistoryItem, 0, len(h.Items))}
	for _, item := range h.Items {
		history.Items = append(history.Items, purser.HistoryItem{
			At: item.At,
			Usage: purser.Usage{
				Dataset:           read.read(item.DatasetUsage),
				Model:             read.read(item.ModelUsage),
				NotebookWorkspace: read.read(item.NotebookWorkspaceUsage),
				SharedStorage:     read.read(item.SharedStorageUsage),
			},
			ByteHours: purser.Usage{
				Dataset:           read.read(item.ByteHours.Dataset),
				Model:             read.read(item.ByteHours.Model),
				NotebookWorkspace: read.read(item.ByteHours.NotebookWorkspace),
				SharedStorage:     read.read(item.ByteHours.SharedStorage),
			},
			Complete: item.Complete,
		})
	}
	if days, known := h.DaysUntilFull.Get(); known {
		history.DaysUntilFull = &days
	}
	return history, read.fault()
}

func orZero(t oas.NilDateTime) time.Time { return t.Or(time.Time{}) }

func fromScan(s oas.Scan) (purser.Scan, error) {
	var read amounts
	scan := purser.Scan{
		ID:         purser.ScanID(s.ID),
		ProviderID: purser.ProviderID(s.ProviderId.Or("")),
		Source:     s.Source,
		State:      purser.ScanState(s.State),
		Objects:    s.Objects,
		Bytes:      read.read(s.Bytes),
		Requests:   s.Requests,
		StartedAt:  orZero(s.StartedAt),
		FinishedAt: orZero(s.FinishedAt),
		Error:      fromScanError(s.Error),
	}
	if c, given := s.EstimatedCost.Get(); given {
		scan.EstimatedCost = read.cost(c)
	}
	if b, given := s.RequestBudget.Get(); given {
		budget := fromRequestBudget(b)
		scan.Budget = &budget
	}
	return scan, read.fault()
}

func fromTeam(t oas.Team) (purser.Team, error) {
	var read amounts
	return purser.Team{
		ID:               purser.TeamID(t.ID),
		Name:             t.Name,
		Namespace:        t.Namespace,
		TotalFreeStorage: read.read(t.TotalFreeStorage),
		CreatedAt:        t.DtCreated,
	}, read.fault()
}

func toTeam(d purser.TeamDraft) *oas.TeamWrite {
	team := &oas.TeamWrite{Name: oas.Name(d.Name), Namespace: d.Namespace}
	if d.TotalFreeStorage != nil {
		team.TotalFreeStorage = oas.NewOptString(d.TotalFreeStorage.String())
	}
	return team
}

func fromKey(k oas.ApiKey) (purser.APIKey, error) {
	return purser.APIKey{
		ID:         purser.KeyID(k.ID),
		TeamID:     purser.TeamID(k.TeamId),
		Name:       k.Name,
		Role:       purser.Role(k.Role),
		CreatedAt:  k.DtCreated,
		ExpiresAt:  orZero(k.ExpiresAt),
		LastUsedAt: orZero(k.LastUsedAt),
	}, nil
}

func fromKeyCreated(k *oas.ApiKeyCreated) (purser.APIKey, error) {
	return fromKey(oas.ApiKey{
		ID:         k.ID,
		Name:       k.Name,
		Role:       k.Role,
		TeamId:     k.TeamId,
		DtCreated:  k.DtCreated,
		ExpiresAt:  k.ExpiresAt,
		LastUsedAt: k.LastUsedAt,
	})
}

func toKey(d purser.KeyDraft) *oas.ApiKeyCreate {
	return &oas.ApiKeyCreate{
		Name:      oas.Name(d.Name),
		Role:      oas.Role(d.Role),
		TeamId:    oas.OptString{Value: string(d.TeamID), Set: d.TeamID != ""},
		ExpiresAt: oas.OptNilDateTime{Value: d.ExpiresAt.UTC(), Set: !d.ExpiresAt.IsZero()},
	}
}

func fromAuditEvent(e oas.AuditEvent) (purser.AuditEvent, error) {
	return purser.AuditEvent{
		ID:            purser.EventID(e.ID),
		TeamID:        purser.TeamID(e.TeamId),
		At:            e.At,
		Actor:         e.Actor,
		Action:        e.Action,
		Target:        e.Target,
		Result:        string(e.Result),
		RequestID:     e.RequestId,
		SourceAddress: e.SourceAddress,
		Fields:        e.Fields,
	}, nil
}

func fromSession(answer oas.NilSession) (Session, error) {
	session, given := answer.Get()
	if !given {
		return Session{}, nil
	}
	s := Session{
		Key:  purser.APIKey{ID: purser.KeyID(session.User.ID), TeamID: purser.TeamID(session.Team.ID), Name: session.User.FirstName, CreatedAt: session.User.DtCreated},
		Team: purser.Team{ID: purser.TeamID(session.Team.ID), Namespace: session.Team.Namespace},
	}
	for _, m := range session.User.TeamMemberships {
		if m.Team.ID == session.Team.ID {
			s.Team.Name, s.Team.CreatedAt, s.Owner = m.Team.Name, m.Team.DtCreated, m.IsOwner
		}
	}
	return s, nil
}
