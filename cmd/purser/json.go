package main

import (
	"time"

	"github.com/purserhq/purser"
)

// What --json shows has the names and forms of the API: amounts are decimal
// strings of bytes, and what is not there is null. A test holds these types
// against the generated ones.
type (
	providerJSON struct {
		ID            string       `json:"id"`
		IsManaged     bool         `json:"isManaged"`
		IsTeamDefault bool         `json:"isTeamDefault"`
		Name          string       `json:"name"`
		S3Config      s3ConfigJSON `json:"s3Config"`
	}
	s3ConfigJSON struct {
		AccessKey        string  `json:"accessKey"`
		Bucket           string  `json:"bucket"`
		Endpoint         *string `json:"endpoint"`
		Region           *string `json:"region"`
		RetainData       bool    `json:"retainData"`
		SecretAccessKey  string  `json:"secretAccessKey"`
		SignatureVersion *string `json:"signatureVersion"`
	}
	ruleJSON struct {
		Category string `json:"category"`
		Prefix   string `json:"prefix"`
	}
	rulesJSON struct {
		Rules []ruleJSON `json:"rules"`
	}
	utilizationJSON struct {
		DatasetUsage           string     `json:"datasetUsage"`
		ModelUsage             string     `json:"modelUsage"`
		NotebookWorkspaceUsage string     `json:"notebookWorkspaceUsage"`
		RemainingFreeStorage   string     `json:"remainingFreeStorage"`
		SharedStorageUsage     string     `json:"sharedStorageUsage"`
		TotalFreeStorage       string     `json:"totalFreeStorage"`
		TotalUsage             string     `json:"totalUsage"`
		MeasuredAt             *time.Time `json:"measuredAt"`
		UsageState             string     `json:"usageState"`
	}
	historyJSON struct {
		Items         []historyItemJSON `json:"items"`
		DaysUntilFull *int              `json:"daysUntilFull"`
	}
	historyItemJSON struct {
		At                     time.Time     `json:"at"`
		DatasetUsage           string        `json:"datasetUsage"`
		ModelUsage             string        `json:"modelUsage"`
		NotebookWorkspaceUsage string        `json:"notebookWorkspaceUsage"`
		SharedStorageUsage     string        `json:"sharedStorageUsage"`
		TotalUsage             string        `json:"totalUsage"`
		ByteHours              byteHoursJSON `json:"byteHours"`
		Complete               bool          `json:"complete"`
	}
	byteHoursJSON struct {
		Dataset           string `json:"dataset"`
		Model             string `json:"model"`
		NotebookWorkspace string `json:"notebookWorkspace"`
		SharedStorage     string `json:"sharedStorage"`
		Total             string `json:"total"`
	}
	sourceUsageJSON struct {
		Dataset           tallyJSON  `json:"dataset"`
		Model             tallyJSON  `json:"model"`
		NotebookWorkspace tallyJSON  `json:"notebookWorkspace"`
		SharedStorage     tallyJSON  `json:"sharedStorage"`
		Unmatched         tallyJSON  `json:"unmatched"`
		MeasuredAt        *time.Time `json:"measuredAt"`
		Method            *string    `json:"method"`
		Complete          bool       `json:"complete"`
		StaleSeconds      *int64     `json:"staleSeconds"`
		Requests          int64      `json:"requests"`

		EstimatedCost  costJSON           `json:"estimatedCost"`
		RequestBudget  requestBudgetJSON  `json:"requestBudget"`
		Folders        []folderLevelJSON  `json:"folders"`
		StorageClasses []storageClassJSON `json:"storageClasses"`
	}
	folderLevelJSON struct {
		Depth   int          `json:"depth"`
		Biggest []folderJSON `json:"biggest"`
		Rest    amountJSON   `json:"rest"`
	}
	folderJSON struct {
		Path string `json:"path"`
		amountJSON
	}
	storageClassJSON struct {
		StorageClass string `json:"storageClass"`
		amountJSON
	}
	amountJSON struct {
		Objects int64  `json:"objects"`
		Bytes   string `json:"bytes"`
	}
	costJSON struct {
		Currency string `json:"currency"`
		Amount   string `json:"amount"`
	}
	requestBudgetJSON struct {
		RequestsPerDay *int64    `json:"requestsPerDay"`
		RequestsToday  int64     `json:"requestsToday"`
		RenewsAt       time.Time `json:"renewsAt"`
	}
	tallyJSON struct {
		Objects    int64  `json:"objects"`
		Current    string `json:"current"`
		Noncurrent string `json:"noncurrent"`
		Unfinished string `json:"unfinished"`
	}
	scanJSON struct {
		ID            string             `json:"id"`
		ProviderID    *string            `json:"providerId"`
		Source        string             `json:"source"`
		State         string             `json:"state"`
		Objects       int64              `json:"objects"`
		Bytes         string             `json:"bytes"`
		Requests      int64              `json:"requests"`
		EstimatedCost *costJSON          `json:"estimatedCost"`
		RequestBudget *requestBudgetJSON `json:"requestBudget"`
		StartedAt     *time.Time         `json:"startedAt"`
		FinishedAt    *time.Time         `json:"finishedAt"`
		Error         *scanErrorJSON     `json:"error"`
	}
	scanErrorJSON struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Hint    string `json:"hint"`
	}
	healthJSON struct {
		State         string            `json:"state"`
		Since         *time.Time        `json:"since"`
		LastCheckedAt *time.Time        `json:"lastCheckedAt"`
		Error         *scanErrorJSON    `json:"error"`
		Detected      detectedJSON      `json:"detected"`
		RequestBudget requestBudgetJSON `json:"requestBudget"`
	}
	detectedJSON struct {
		SigningRegion string `json:"signingRegion,omitempty"`
		Method        string `json:"method,omitempty"`
		Addressing    string `json:"addressing,omitempty"`
		ListVersion   int    `json:"listVersion,omitempty"`
		Versioned     *bool  `json:"versioned,omitempty"`
	}
	teamJSON struct {
		ID               string    `json:"id"`
		Name             string    `json:"name"`
		Namespace        string    `json:"namespace"`
		TotalFreeStorage string    `json:"totalFreeStorage"`
		DtCreated        time.Time `json:"dtCreated"`
	}
	keyJSON struct {
		ID         string     `json:"id"`
		Key        string     `json:"key,omitempty"` // only of a new one
		Name       string     `json:"name"`
		Role       string     `json:"role"`
		TeamID     string     `json:"teamId"`
		DtCreated  time.Time  `json:"dtCreated"`
		ExpiresAt  *time.Time `json:"expiresAt"`
		LastUsedAt *time.Time `json:"lastUsedAt"`
	}
	eventJSON struct {
		ID            string    `json:"id"`
		At            time.Time `json:"at"`
		TeamID        string    `json:"teamId"`
		Actor         string    `json:"actor"`
		Action        string    `json:"action"`
		Target        string    `json:"target"`
		Result        string    `json:"result"`
		RequestID     string    `json:"requestId"`
		SourceAddress string    `json:"sourceAddress"`
		Fields        []string  `json:"fields"`
	}
	pageJSON struct {
		HasMore  bool    `json:"hasMore"`
		Items    []any   `json:"items"`
		NextPage *string `json:"nextPage"`
	}
	idJSON struct {
		ID string `json:"id"`
	}
)

func orNull[S ~string](s S) *string {
	if s == "" {
		return nil
	}
	text := string(s)
	return &text
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func toProviderJSON(p purser.Provider) providerJSON {
	return providerJSON{
		ID:            string(p.ID),
		IsManaged:     p.Managed,
		IsTeamDefault: p.TeamDefault,
		Name:          p.Name,
		S3Config: s3ConfigJSON{
			AccessKey:        p.S3.AccessKey,
			Bucket:           p.S3.Bucket,
			Endpoint:         orNull(p.S3.Endpoint),
			Region:           orNull(p.S3.Region),
			RetainData:       p.S3.RetainData,
			SecretAccessKey:  purser.MaskedSecret,
			SignatureVersion: orNull(p.S3.SignatureVersion),
		},
	}
}

func toRulesJSON(rules []purser.MeteringRule) rulesJSON {
	list := make([]ruleJSON, 0, len(rules))
	for _, rule := range rules {
		list = append(list, ruleJSON{Category: string(rule.Category), Prefix: rule.Prefix})
	}
	return rulesJSON{Rules: list}
}

func toUtilizationJSON(u purser.Utilization) utilizationJSON {
	return utilizationJSON{
		DatasetUsage:           u.Dataset.String(),
		ModelUsage:             u.Model.String(),
		NotebookWorkspaceUsage: u.NotebookWorkspace.String(),
		RemainingFreeStorage:   u.RemainingFreeStorage().String(),
		SharedStorageUsage:     u.SharedStorage.String(),
		TotalFreeStorage:       u.TotalFreeStorage.String(),
		TotalUsage:             u.Total().String(),
		MeasuredAt:             timeOrNull(u.MeasuredAt),
		UsageState:             string(u.State),
	}
}

func toHistoryJSON(h purser.History) historyJSON {
	document := historyJSON{Items: make([]historyItemJSON, 0, len(h.Items)), DaysUntilFull: h.DaysUntilFull}
	for _, item := range h.Items {
		document.Items = append(document.Items, historyItemJSON{
			At:                     item.At.UTC(),
			DatasetUsage:           item.Dataset.String(),
			ModelUsage:             item.Model.String(),
			NotebookWorkspaceUsage: item.NotebookWorkspace.String(),
			SharedStorageUsage:     item.SharedStorage.String(),
			TotalUsage:             item.Total().String(),
			ByteHours: byteHoursJSON{
				Dataset:           item.ByteHours.Dataset.String(),
				Model:             item.ByteHours.Model.String(),
				NotebookWorkspace: item.ByteHours.NotebookWorkspace.String(),
				SharedStorage:     item.ByteHours.SharedStorage.String(),
				Total:             item.ByteHours.Total().String(),
			},
			Complete: item.Complete,
		})
	}
	return document
}

func toSourceUsageJSON(u purser.SourceUsage, now time.Time) sourceUsageJSON {
	tally := func(c purser.Category) tallyJSON {
		t := u.Tallies[c]
		return tallyJSON{Objects: t.Objects, Current: t.Current.String(), Noncurrent: t.Noncurrent.String(), Unfinished: t.Unfinished.String()}
	}
	document := sourceUsageJSON{
		Dataset:           tally(purser.CategoryDataset),
		Model:             tally(purser.CategoryModel),
		NotebookWorkspace: tally(purser.CategoryNotebookWorkspace),
		SharedStorage:     tally(purser.CategorySharedStorage),
		Unmatched:         tally(purser.CategoryUnmatched),
		MeasuredAt:        timeOrNull(u.MeasuredAt),
		Method:            orNull(u.Method),
		Complete:          u.Complete,
		Requests:          u.Requests,
		EstimatedCost:     toCostJSON(u.EstimatedCost),
		RequestBudget:     toRequestBudgetJSON(u.Budget),
		Folders:           make([]folderLevelJSON, 0, len(u.Folders)),
		StorageClasses:    make([]storageClassJSON, 0, len(u.StorageClasses)),
	}
	for i, l := range u.Folders {
		level := folderLevelJSON{Depth: i + 1, Biggest: make([]folderJSON, 0, len(l.Biggest)), Rest: toAmountJSON(l.Rest)}
		for _, f := range l.Biggest {
			level.Biggest = append(level.Biggest, folderJSON{f.Path, toAmountJSON(f.Amount)})
		}
		document.Folders = append(document.Folders, level)
	}
	for _, c := range u.StorageClasses {
		document.StorageClasses = append(document.StorageClasses, storageClassJSON{c.Name, toAmountJSON(c.Amount)})
	}
	if !u.MeasuredAt.IsZero() {
		stale := max(0, int64(now.Sub(u.MeasuredAt)/time.Second))
		document.StaleSeconds = &stale
	}
	return document
}

func toAmountJSON(a purser.Amount) amountJSON { return amountJSON{a.Objects, a.Bytes.String()} }

func toCostJSON(c purser.Cost) costJSON { return costJSON{Currency: "USD", Amount: c.String()} }

func toRequestBudgetJSON(b purser.RequestBudget) requestBudgetJSON {
	document := requestBudgetJSON{RequestsToday: b.Spent, RenewsAt: b.RenewsAt().UTC()}
	if b.PerDay > 0 {
		document.RequestsPerDay = &b.PerDay
	}
	return document
}

func toScanJSON(s purser.Scan) scanJSON {
	document := scanJSON{
		ID:         string(s.ID),
		ProviderID: orNull(s.ProviderID),
		Source:     s.Source,
		State:      string(s.State),
		Objects:    s.Objects,
		Bytes:      s.Bytes.String(),
		Requests:   s.Requests,
		StartedAt:  timeOrNull(s.StartedAt),
		FinishedAt: timeOrNull(s.FinishedAt),
		Error:      toScanErrorJSON(s.Error),
	}
	if s.ProviderID != "" {
		cost := toCostJSON(s.EstimatedCost)
		document.EstimatedCost = &cost
	}
	if s.Budget != nil {
		budget := toRequestBudgetJSON(*s.Budget)
		document.RequestBudget = &budget
	}
	return document
}

func toScanErrorJSON(e *purser.ScanError) *scanErrorJSON {
	if e == nil {
		return nil
	}
	return &scanErrorJSON{Code: e.Code, Message: e.Message, Hint: e.Hint}
}

func toHealthJSON(h purser.Health) healthJSON {
	return healthJSON{
		State:         string(h.State),
		Since:         timeOrNull(h.Since),
		LastCheckedAt: timeOrNull(h.CheckedAt),
		Error:         toScanErrorJSON(h.Error),
		Detected: detectedJSON{
			SigningRegion: h.Detected.Region, Method: h.Method, Addressing: string(h.Detected.Addressing),
			ListVersion: h.Detected.ListVersion, Versioned: h.Detected.Versioned,
		},
		RequestBudget: toRequestBudgetJSON(h.Budget),
	}
}

func toTeamJSON(t purser.Team) teamJSON {
	return teamJSON{
		ID:               string(t.ID),
		Name:             t.Name,
		Namespace:        t.Namespace,
		TotalFreeStorage: t.TotalFreeStorage.String(),
		DtCreated:        t.CreatedAt.UTC(),
	}
}

func toKeyJSON(k purser.APIKey) keyJSON {
	return keyJSON{
		ID:         string(k.ID),
		Name:       k.Name,
		Role:       string(k.Role),
		TeamID:     string(k.TeamID),
		DtCreated:  k.CreatedAt.UTC(),
		ExpiresAt:  timeOrNull(k.ExpiresAt),
		LastUsedAt: timeOrNull(k.LastUsedAt),
	}
}

func toEventJSON(e purser.AuditEvent) eventJSON {
	return eventJSON{
		ID:            string(e.ID),
		At:            e.At.UTC(),
		TeamID:        string(e.TeamID),
		Actor:         e.Actor,
		Action:        e.Action,
		Target:        e.Target,
		Result:        e.Result,
		RequestID:     e.RequestID,
		SourceAddress: e.SourceAddress,
		Fields:        append([]string{}, e.Fields...),
	}
}
