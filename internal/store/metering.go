package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"math"
	"time"

	"github.com/purserhq/purser"
)

// Source is one countable place: the bucket of a provider, or a team's part of a
// tree.
type Source struct {
	TeamID     purser.TeamID
	ID         purser.SourceID
	ProviderID purser.ProviderID // empty for a tree
	// TreeCategory and TreePath are what the operator configured, the path still
	// with its {team}; empty for a bucket.
	TreeCategory purser.Category
	TreePath     string
	DueAt        time.Time
}

// TeamUsage is what a team's utilization is answered from.
type TeamUsage struct {
	purser.Usage
	TotalFreeStorage purser.Bytes
	MeasuredAt       time.Time // of the source measured longest ago; zero before any
	// PendingSources were never measured; the newest scan of TroubledSources could
	// not read everything.
	PendingSources, TroubledSources int64
}

// Tallies are sums by category, as they are stored.
type Tallies map[purser.Category]purser.Tally

// RangeKey names a range.
type RangeKey struct {
	TeamID purser.TeamID
	ScanID purser.ScanID
	Number int64
}

// Range is the saved work of a part of a scan.
type Range struct {
	RangeKey
	// Place is a fingerprint of what the scan began to measure, and by which rules.
	Place   int64
	Cursor  []byte
	Tallies Tallies
	// Details are what else was found out, in the words of package metering; nil
	// before the first save.
	Details    []byte
	Requests   int64
	Incomplete *purser.ScanError
	// Failures counts the slices in a row that got nowhere.
	Failures int64
	// Fence is the number under which the range was claimed: only its holder may
	// save.
	Fence int64
	// LeaseUntil is when others may take over.
	LeaseUntil time.Time
	// Allowed is how many more requests than Requests its holder may have sent since
	// it was saved; ClaimRange does not tell it.
	Allowed int64
	Done    bool
}

// Now returns the database's clock, by which leases are judged: the nodes' own
// clocks may differ.
func (r reads) Now(ctx context.Context) (time.Time, error) {
	return one(ctx, r.run, func(row scanner) (time.Time, error) {
		var us int64
		err := row.Scan(&us)
		return fromMicros(us), err
	}, optional, "Now")
}

// GetTeamUsage returns a team's counters.
func (r reads) GetTeamUsage(ctx context.Context, team purser.TeamID) (TeamUsage, error) {
	return one(ctx, r.run, func(row scanner) (u TeamUsage, err error) {
		var measured sql.NullInt64
		err = row.Scan(&u.Dataset, &u.Model, &u.NotebookWorkspace, &u.SharedStorage, &measured,
			&u.PendingSources, &u.TroubledSources, &u.TotalFreeStorage)
		u.MeasuredAt = fromNullMicros(measured)
		return u, err
	}, noTeam, "GetTeamUsage", string(team))
}

// RefreshTeamUsage adds a team's counters up again from its sources. Sums stop at
// the largest number there is. The team must be locked.
func (t *Tx) RefreshTeamUsage(ctx context.Context, team purser.TeamID) error {
	u, err := one(ctx, t.run, scanSums, noTeam, "SumSources", string(team))
	if err != nil {
		return err
	}
	return mustChange(ctx, t.run, noTeam, "SetTeamUsage", string(team), int64(u.Dataset), int64(u.Model), int64(u.NotebookWorkspace),
		int64(u.SharedStorage), nullMicros(u.MeasuredAt), u.PendingSources, u.TroubledSources)
}

func scanSums(row scanner) (u TeamUsage, err error) {
	var upper, lower [4]int64
	var measured sql.NullInt64
	err = row.Scan(&upper[0], &lower[0], &upper[1], &lower[1], &upper[2], &lower[2], &upper[3], &lower[3],
		&measured, &u.PendingSources, &u.TroubledSources)
	for i, sum := range []*purser.Bytes{&u.Dataset, &u.Model, &u.NotebookWorkspace, &u.SharedStorage} {
		*sum = joinHalves(upper[i], lower[i])
	}
	u.MeasuredAt = fromNullMicros(measured)
	return u, err
}

// joinHalves returns upper × 2³² + lower, or the largest number there is.
func joinHalves(upper, lower int64) purser.Bytes {
	upper += lower >> 32
	if upper > math.MaxInt32 {
		return math.MaxInt64
	}
	return purser.Bytes(upper<<32 | lower&math.MaxUint32)
}

// GetSourceUsage returns the newest complete measurement of a provider's bucket.
func (r reads) GetSourceUsage(ctx context.Context, team purser.TeamID, provider purser.ProviderID) (purser.SourceUsage, error) {
	return one(ctx, r.run, func(row scanner) (u purser.SourceUsage, err error) {
		var tallies string
		var measured, spentOn sql.NullInt64
		var details sql.NullString
		if err := row.Scan(&tallies, &measured, &u.Method, &u.Complete, &u.Requests, &details, &u.Budget.Spent, &spentOn); err != nil {
			return u, err
		}
		u.MeasuredAt, u.Budget.Day = fromNullMicros(measured), fromNullMicros(spentOn)
		if err := json.Unmarshal([]byte(tallies), &u.Tallies); err != nil || !details.Valid {
			return u, err
		}
		err = json.Unmarshal([]byte(details.String), &detailsOf{&u.Folders, &u.StorageClasses})
		return u, err
	}, noProvider, "GetSourceUsage", string(team), string(provider))
}

// detailsOf are the parts of a measurement that are stored as one text.
type detailsOf struct {
	Folders        *[]purser.FolderLevel  `json:"folders"`
	StorageClasses *[]purser.StorageClass `json:"storageClasses"`
}

func noSource(op string) error { return purser.NotFound("store."+op, "source") }

// GetSource returns one of a team's sources.
func (r reads) GetSource(ctx context.Context, team purser.TeamID, id purser.SourceID) (Source, error) {
	return one(ctx, r.run, scanSource, noSource, "GetSource", string(team), string(id))
}

// GetSourceOfProvider returns the source that is a provider's bucket.
func (r reads) GetSourceOfProvider(ctx context.Context, team purser.TeamID, id purser.ProviderID) (Source, error) {
	return one(ctx, r.run, scanSource, noProvider, "GetSourceOfProvider", string(team), string(id))
}

// ListSources returns all sources of a team.
func (r reads) ListSources(ctx context.Context, team purser.TeamID) ([]Source, error) {
	return all(ctx, r.run, scanSource, "ListSources", string(team))
}

// ListTreeSources returns every team's trees.
func (r reads) ListTreeSources(ctx context.Context) ([]Source, error) {
	return all(ctx, r.run, scanSource, "ListTreeSources")
}

// ListTeamsWithoutTree returns up to limit teams that have no source yet for a
// tree that the operator has configured.
func (r reads) ListTeamsWithoutTree(ctx context.Context, category purser.Category, path string, limit int) ([]purser.TeamID, error) {
	return all(ctx, r.run, scalar[purser.TeamID],
		"ListTeamsWithoutTree", string(category), path, limit)
}

// CreateSource stores a new source that was never measured, and counts it among
// the team's pending ones: a new source changes no sum, so that its cost does
// not grow with those that are there. Its history begins when it is due.
func (t *Tx) CreateSource(ctx context.Context, s Source) error {
	err := run(ctx, t.run, "CreateSource", string(s.TeamID), string(s.ID), nullText(s.ProviderID), nullText(s.TreeCategory),
		nullText(s.TreePath), toMicros(s.DueAt))
	if err != nil {
		return err
	}
	if err := t.beginSeries(ctx, s.TeamID, Series{SourceID: s.ID, Number: 1, ProviderID: s.ProviderID, BeganAt: s.DueAt}); err != nil {
		return err
	}
	return run(ctx, t.run, "AddPendingSource", string(s.TeamID))
}

// TakeDueSources returns up to limit sources whose scan is due, and keeps other
// nodes from taking them until the transaction has ended.
func (t *Tx) TakeDueSources(ctx context.Context, now time.Time, limit int) ([]Source, error) {
	return all(ctx, t.run, scanSource, "ListDueSources", toMicros(now), limit)
}

// SetDue says when a source is to be scanned next.
func (t *Tx) SetDue(ctx context.Context, team purser.TeamID, id purser.SourceID, at time.Time) error {
	return run(ctx, t.run, "SetDue", string(team), string(id), toMicros(at))
}

// ResetSource forgets what was measured: the place is another one now. What the
// old one held stays in the history.
func (t *Tx) ResetSource(ctx context.Context, team purser.TeamID, id purser.SourceID) error {
	ended, err := t.endSeries(ctx, team, id)
	if err != nil {
		return err
	}
	next := Series{SourceID: id, Number: ended.Number + 1, ProviderID: ended.ProviderID, BeganAt: ended.EndedAt}
	if ended.EndedAt.IsZero() { // nothing was read of the old place, and nobody knows that it was there
		next.BeganAt = ended.BeganAt
	}
	if err := t.beginSeries(ctx, team, next); err != nil {
		return err
	}
	return run(ctx, t.run, "ResetSource", string(team), string(id))
}

// DeleteSource deletes a source and its figures; its history stays.
func (t *Tx) DeleteSource(ctx context.Context, team purser.TeamID, id purser.SourceID) error {
	if _, err := t.endSeries(ctx, team, id); err != nil && purser.KindOf(err) != purser.KindNotFound {
		return err
	}
	return run(ctx, t.run, "DeleteSource", string(team), string(id))
}

// PublishSource replaces a source's figures by a complete measurement.
func (t *Tx) PublishSource(ctx context.Context, team purser.TeamID, id purser.SourceID, u purser.SourceUsage) error {
	tallies, err := json.Marshal(u.Tallies)
	if err != nil {
		return convertError(err)
	}
	details, err := json.Marshal(detailsOf{&u.Folders, &u.StorageClasses})
	if err != nil {
		return convertError(err)
	}
	bytes := func(c purser.Category) int64 { return int64(u.Tallies[c].Bytes()) }
	return run(ctx, t.run, "PublishSource", string(team), string(id), bytes(purser.CategoryDataset), bytes(purser.CategoryModel),
		bytes(purser.CategoryNotebookWorkspace), bytes(purser.CategorySharedStorage), string(tallies), u.Method, u.Requests, toMicros(u.MeasuredAt), string(details))
}

// SetCuts keeps where the next scan of a source is to cut it, in the words of
// package metering.
func (t *Tx) SetCuts(ctx context.Context, team purser.TeamID, id purser.SourceID, cuts []byte) error {
	return run(ctx, t.run, "SetCuts", string(team), string(id), cuts)
}

// GetCuts returns what SetCuts has stored; nil is nothing.
func (r reads) GetCuts(ctx context.Context, team purser.TeamID, id purser.SourceID) ([]byte, error) {
	return one(ctx, r.run, scalar[[]byte], noSource, "GetCuts", string(team), string(id))
}

// MarkSourceIncomplete notes that the newest scan of a source could not read
// everything; its figures stay.
func (t *Tx) MarkSourceIncomplete(ctx context.Context, team purser.TeamID, id purser.SourceID) error {
	return run(ctx, t.run, "MarkSourceIncomplete", string(team), string(id))
}

// SetHealth notes what was found out about a source, which is not HealthUnknown.
func (t *Tx) SetHealth(ctx context.Context, team purser.TeamID, id purser.SourceID, state purser.HealthState, problem *purser.ScanError, at time.Time) error {
	text, err := jsonOrNull(problem)
	if err != nil {
		return err
	}
	return run(ctx, t.run, "SetHealth", string(team), string(id), string(state), text, toMicros(at))
}

// ForgetHealth makes the health of a source unknown, and what was detected: what
// was found out is not about what it is now.
func (t *Tx) ForgetHealth(ctx context.Context, team purser.TeamID, id purser.SourceID) error {
	return run(ctx, t.run, "ForgetHealth", string(team), string(id))
}

// SetDetected replaces what was found out about the store of a source, but for its
// region: see SetDetectedRegion.
func (t *Tx) SetDetected(ctx context.Context, team purser.TeamID, id purser.SourceID, d purser.Detected) error {
	text, err := json.Marshal(detectedText(d))
	if err != nil {
		return convertError(err)
	}
	return run(ctx, t.run, "SetDetected", string(team), string(id), string(text))
}

// detectedText is purser.Detected as a source has it. The region is kept with the
// provider, since scans begin with it.
type detectedText struct {
	Region      string            `json:"-"`
	Addressing  purser.Addressing `json:"addressing,omitempty"`
	ListVersion int               `json:"listVersion,omitempty"`
	Versioned   *bool             `json:"versioned,omitempty"`
}

// GetHealth returns what was found out about a provider's bucket.
func (r reads) GetHealth(ctx context.Context, team purser.TeamID, provider purser.ProviderID) (purser.Health, error) {
	return one(ctx, r.run, func(row scanner) (h purser.Health, err error) {
		var since, checked, spentOn sql.NullInt64
		var problem, detected sql.NullString
		var region string
		if err := row.Scan(&h.State, &since, &checked, &problem, &h.Method, &detected, &region, &h.Budget.Spent, &spentOn); err != nil {
			return h, err
		}
		if detected.Valid {
			if err := json.Unmarshal([]byte(detected.String), (*detectedText)(&h.Detected)); err != nil {
				return h, err
			}
		}
		h.Detected.Region = region
		h.Since, h.CheckedAt, h.Budget.Day = fromNullMicros(since), fromNullMicros(checked), fromNullMicros(spentOn)
		h.Error, err = scanErrorIn(problem)
		return h, err
	}, noProvider, "GetHealth", string(team), string(provider))
}

// SpendRequests counts requests that were sent to a source's bucket on the day
// with this beginning, and returns how many they are by now.
func (t *Tx) SpendRequests(ctx context.Context, team purser.TeamID, id purser.SourceID, day time.Time, requests int64) (spent int64, err error) {
	return one(ctx, t.run, scalar[int64], noSource, "SpendRequests", string(team), string(id), toMicros(day), requests)
}

func noScan(op string) error { return purser.NotFound("store."+op, "scan") }

// GetScan returns a team's scan.
func (r reads) GetScan(ctx context.Context, team purser.TeamID, id purser.ScanID) (purser.Scan, error) {
	return one(ctx, r.run, scanScan, noScan, "GetScan", string(team), string(id))
}

// GetRunningScan returns the scan of a source that is queued or running;
// KindNotFound if there is none.
func (r reads) GetRunningScan(ctx context.Context, team purser.TeamID, source purser.SourceID) (purser.Scan, error) {
	return one(ctx, r.run, scanScan, noScan, "GetRunningScan", string(team), string(source))
}

// ListScans returns a page of a team's scans.
func (r reads) ListScans(ctx context.Context, team purser.TeamID, page purser.PageRequest) (purser.Page[purser.Scan], error) {
	return list(ctx, r.run, scanScan, func(s purser.Scan) purser.Position {
		return purser.Position{CreatedAt: s.CreatedAt, ID: string(s.ID)}
	}, "ListScans", page, string(team))
}

// CreateScan stores a new scan, queued; KindConflict if its source has one that
// has not ended.
func (t *Tx) CreateScan(ctx context.Context, s purser.Scan) error {
	return run(ctx, t.run, "CreateScan", string(s.TeamID), string(s.ID), string(s.SourceID), nullText(s.ProviderID), s.Source, toMicros(s.CreatedAt))
}

// StartScan makes a queued scan running; one that runs already stays as it is.
func (t *Tx) StartScan(ctx context.Context, team purser.TeamID, id purser.ScanID, now time.Time) error {
	return run(ctx, t.run, "StartScan", string(team), string(id), toMicros(now))
}

// SetScanProgress stores how far a running scan is, and what it waits to be over
// (a nil Error is nothing).
func (t *Tx) SetScanProgress(ctx context.Context, s purser.Scan) error {
	var e purser.ScanError
	if s.Error != nil {
		e = *s.Error
	}
	return run(ctx, t.run, "SetScanProgress", string(s.TeamID), string(s.ID), s.Objects, int64(s.Bytes), s.Requests,
		nullText(e.Code), nullText(e.Message), nullText(e.Hint))
}

// EndScan puts a scan into a final state and drops its ranges. It reports false
// if the scan had ended before.
func (t *Tx) EndScan(ctx context.Context, team purser.TeamID, id purser.ScanID, state purser.ScanState, problem *purser.ScanError, now time.Time) (bool, error) {
	var e purser.ScanError
	if problem != nil {
		e = *problem
	}
	n, err := changed(ctx, t.run, "EndScan", string(team), string(id), string(state), toMicros(now),
		nullText(e.Code), nullText(e.Message), nullText(e.Hint))
	if err != nil || n == 0 {
		return false, err
	}
	return true, run(ctx, t.run, "DeleteRanges", string(team), string(id))
}

// DeleteScansBefore deletes a team's ended scans that were created before a time.
func (t *Tx) DeleteScansBefore(ctx context.Context, team purser.TeamID, before time.Time) error {
	return run(ctx, t.run, "DeleteOldScans", string(team), toMicros(before))
}

// CreateRange stores a new range from which nothing was read yet. cursor says
// which part of the place it is; nil is all of it.
func (t *Tx) CreateRange(ctx context.Context, key RangeKey, place int64, cursor []byte) error {
	return run(ctx, t.run, "CreateRange", string(key.TeamID), string(key.ScanID), key.Number, place, cursor)
}

// TakeIdleRanges returns up to limit ranges that nobody holds a lease on, and
// keeps other nodes from taking them until the transaction has ended.
func (t *Tx) TakeIdleRanges(ctx context.Context, now time.Time, limit int) ([]RangeKey, error) {
	return all(ctx, t.run, func(row scanner) (k RangeKey, err error) {
		err = row.Scan(&k.TeamID, &k.ScanID, &k.Number)
		return k, err
	}, "ListIdleRanges", toMicros(now), limit)
}

// OfferRange reserves a range, until a time, for the worker that is told the
// returned fence. Whoever held it before can no longer save.
func (t *Tx) OfferRange(ctx context.Context, key RangeKey, until time.Time) (fence int64, err error) {
	return one(ctx, t.run, scalar[int64], noScan,
		"OfferRange", string(key.TeamID), string(key.ScanID), key.Number, toMicros(until))
}

// ClaimRange takes a range that was offered under fence and returns its saved
// work; KindNotFound if it was offered to somebody else since, or is done.
func (t *Tx) ClaimRange(ctx context.Context, key RangeKey, fence int64, until time.Time) (Range, error) {
	return one(ctx, t.run, func(row scanner) (Range, error) {
		r := Range{RangeKey: key, LeaseUntil: until}
		var texts rangeTexts
		if err := row.Scan(&r.Fence, &r.Place, &r.Cursor, &texts.tallies, &r.Requests, &texts.incomplete, &r.Failures, &r.Details); err != nil {
			return r, err
		}
		err := texts.into(&r)
		return r, err
	}, noScan, "ClaimRange", string(key.TeamID), string(key.ScanID), key.Number, fence, toMicros(until))
}

// RenewLease extends the lease of whoever claimed the range under fence;
// KindNotFound if it was taken over or its scan has ended.
func (t *Tx) RenewLease(ctx context.Context, key RangeKey, fence int64, until time.Time) error {
	return mustChange(ctx, t.run, noScan, "RenewLease", string(key.TeamID), string(key.ScanID), key.Number, fence, toMicros(until))
}

// AllowRequests notes how many requests whoever claimed the range under fence may
// send before it is saved; KindNotFound if it was taken over or its scan has
// ended.
func (t *Tx) AllowRequests(ctx context.Context, key RangeKey, fence, requests int64) error {
	return mustChange(ctx, t.run, noScan, "AllowRequests", string(key.TeamID), string(key.ScanID), key.Number, fence, requests)
}

// OthersAllowed returns how many requests the other ranges of a scan that are not
// done have been allowed, and how many ranges are not done, this one included.
func (r reads) OthersAllowed(ctx context.Context, key RangeKey) (requests, ranges int64, err error) {
	requests, err = one(ctx, r.run, func(row scanner) (n int64, err error) {
		err = row.Scan(&n, &ranges)
		return n, err
	}, noScan, "SumAllowed", string(key.TeamID), string(key.ScanID), key.Number)
	return requests, ranges, err
}

// AskForWork notes that a node has nothing to do until a time, if others have.
func (t *Tx) AskForWork(ctx context.Context, node string, now, until time.Time) error {
	return run(ctx, t.run, "AskForWork", node, toMicros(until), toMicros(now))
}

// FindAsk returns a node, other than this one, that has asked for work; "" is
// none.
func (r reads) FindAsk(ctx context.Context, except string, now time.Time) (node string, err error) {
	return one(ctx, r.run, scalar[string], optional, "FindAsk", except, toMicros(now))
}

// DeleteAsk forgets what a node has asked for: it gets it.
func (t *Tx) DeleteAsk(ctx context.Context, node string) error {
	return run(ctx, t.run, "DeleteAsk", node)
}

// DeleteAsksBefore forgets the nodes that have asked for work until that time.
func (t *Tx) DeleteAsksBefore(ctx context.Context, before time.Time) error {
	return run(ctx, t.run, "DeleteAsksBefore", toMicros(before))
}

// WakeRanges ends leases that run longer than until, at now.
func (t *Tx) WakeRanges(ctx context.Context, now, until time.Time) error {
	return run(ctx, t.run, "WakeRanges", toMicros(now), toMicros(until))
}

// SaveRange stores the work done on a range; KindNotFound if it was taken over
// or its scan has ended, and then nothing is stored.
func (t *Tx) SaveRange(ctx context.Context, r Range) error {
	tallies, err := json.Marshal(r.Tallies)
	if err != nil {
		return convertError(err)
	}
	incomplete, err := jsonOrNull(r.Incomplete)
	if err != nil {
		return err
	}
	return mustChange(ctx, t.run, noScan, "SaveRange", string(r.TeamID), string(r.ScanID), r.Number, r.Fence,
		r.Cursor, string(tallies), r.Requests, incomplete, r.Failures, toMicros(r.LeaseUntil), r.Done, r.Details, r.Allowed)
}

// HoldsRange reports whether the range is still held under fence: nobody has
// taken it over, and its scan has not ended.
func (r reads) HoldsRange(ctx context.Context, key RangeKey, fence int64) (bool, error) {
	n, err := one(ctx, r.run, scalar[int64], optional, "HoldsRange",
		string(key.TeamID), string(key.ScanID), key.Number, fence)
	return n == 1, err
}

// ListRanges returns all ranges of a scan that has not ended.
func (r reads) ListRanges(ctx context.Context, team purser.TeamID, id purser.ScanID) ([]Range, error) {
	return all(ctx, r.run, func(row scanner) (Range, error) {
		r := Range{RangeKey: RangeKey{TeamID: team, ScanID: id}}
		var texts rangeTexts
		var lease int64
		if err := row.Scan(&r.Number, &r.Fence, &r.Place, &r.Cursor, &texts.tallies, &r.Requests, &texts.incomplete,
			&r.Failures, &lease, &r.Done, &r.Details, &r.Allowed); err != nil {
			return r, err
		}
		r.LeaseUntil = fromMicros(lease)
		err := texts.into(&r)
		return r, err
	}, "ListRanges", string(team), string(id))
}

// rangeTexts are the columns of a range that hold JSON.
type rangeTexts struct {
	tallies    string
	incomplete sql.NullString
}

func (t rangeTexts) into(r *Range) (err error) {
	if r.Incomplete, err = scanErrorIn(t.incomplete); err != nil {
		return err
	}
	return json.Unmarshal([]byte(t.tallies), &r.Tallies)
}

// jsonOrNull is a ScanError as a column has it; NULL is none.
func jsonOrNull(e *purser.ScanError) (sql.NullString, error) {
	if e == nil {
		return sql.NullString{}, nil
	}
	text, err := json.Marshal(e)
	return sql.NullString{String: string(text), Valid: true}, convertError(err)
}

// scanErrorIn reads what jsonOrNull made.
func scanErrorIn(text sql.NullString) (*purser.ScanError, error) {
	if !text.Valid {
		return nil, nil
	}
	e := new(purser.ScanError)
	return e, json.Unmarshal([]byte(text.String), e)
}

func scanSource(row scanner) (s Source, err error) {
	var provider, category, path sql.NullString
	var due int64
	err = row.Scan(&s.TeamID, &s.ID, &provider, &category, &path, &due)
	s.ProviderID, s.TreeCategory, s.TreePath = purser.ProviderID(provider.String), purser.Category(category.String), path.String
	s.DueAt = fromMicros(due)
	return s, err
}

func scanScan(row scanner) (s purser.Scan, err error) {
	var provider, code, message, hint sql.NullString
	var created int64
	var started, finished, spent, spentOn sql.NullInt64
	err = row.Scan(&s.TeamID, &s.ID, &s.SourceID, &provider, &s.Source, &s.State, &s.Objects, &s.Bytes, &s.Requests,
		&created, &started, &finished, &code, &message, &hint, &spent, &spentOn)
	s.ProviderID = purser.ProviderID(provider.String)
	s.CreatedAt, s.StartedAt, s.FinishedAt = fromMicros(created), fromNullMicros(started), fromNullMicros(finished)
	if code.Valid {
		s.Error = &purser.ScanError{Code: code.String, Message: message.String, Hint: hint.String}
	}
	if spent.Valid {
		s.Budget = &purser.RequestBudget{Spent: spent.Int64, Day: fromNullMicros(spentOn)}
	}
	return s, err
}
