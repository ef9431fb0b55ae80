package metering

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"slices"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/engine"
	"github.com/purserhq/purser/internal/metering/source"
	"github.com/purserhq/purser/internal/seal"
	"github.com/purserhq/purser/internal/store"
)

// plan is what there is to measure of a source, and what it counts as.
type plan struct {
	source store.Source
	// name is the place as people are told it.
	name string
	// place is a fingerprint of what is measured and by which rules: sums that
	// were begun under another one cannot be continued.
	place    int64
	classify classifier

	// Of a bucket only.
	provider   purser.Provider
	credential store.Credential
	bucket     source.Bucket // still without the secret
	located    bool          // false: its site has no endpoint yet
	folder     bool          // only the team's folder is listed

	tree source.Tree // of a tree only
}

// planFor finds out what is to be measured of a source; KindNotFound if the
// provider was deleted, or the tree is no longer configured.
func (s *Service) planFor(ctx context.Context, tx *store.Tx, src store.Source) (*plan, error) {
	if src.ProviderID == "" {
		return s.planTree(src)
	}
	provider, err := tx.GetProvider(ctx, src.TeamID, src.ProviderID)
	if err != nil {
		return nil, err
	}
	credential, err := tx.GetCredential(ctx, src.TeamID, src.ProviderID)
	if err != nil {
		return nil, err
	}
	rules, err := tx.GetMeteringRules(ctx, src.TeamID, src.ProviderID)
	if err != nil {
		return nil, err
	}
	return s.planBucket(src, provider, credential, rules), nil
}

func (s *Service) planTree(src store.Source) (*plan, error) {
	i := slices.IndexFunc(s.Trees, func(t purser.Tree) bool { return isPartOf(src, t) })
	if i < 0 {
		return nil, purser.NotFound("metering.planTree", "tree")
	}
	tree := s.Trees[i]
	root := tree.Root(src.TeamID)
	return &plan{
		source: src, name: root, place: fingerprint("tree", tree),
		classify: classifier{rest: slotOf(tree.Category)}, tree: source.Tree{Root: root, Method: tree.Method},
	}, nil
}

func (s *Service) planBucket(src store.Source, p purser.Provider, c store.Credential, rules []purser.MeteringRule) *plan {
	endpoint, region, located := s.Sites.Locate(p.S3)
	if region == "" {
		region = c.DetectedRegion
	}
	plan := &plan{
		source: src, name: "s3://" + p.S3.Bucket, provider: p, credential: c, located: located,
		bucket: source.Bucket{
			Source: string(src.ID), Endpoint: endpoint, Bucket: p.S3.Bucket, AccessKey: p.S3.AccessKey, Signature: p.S3.Signature(), Region: region,
		},
	}
	plan.place = fingerprint("bucket", struct {
		Endpoint, Bucket string
		Managed          bool
		Rules            []purser.MeteringRule
	}{endpoint, p.S3.Bucket, p.Managed, rules})
	if len(rules) > 0 {
		// All of the bucket is listed, so that what the rules leave out shows as unmatched.
		plan.classify = ownRules(rules)
		return plan
	}
	plan.classify = defaultRules(p)
	if !p.Managed {
		plan.folder, plan.bucket.Prefix = true, folderOf(p.TeamID)
	}
	return plan
}

// folderOf is the part of a bucket that is a team's own.
func folderOf(team purser.TeamID) string { return string(team) + "/" }

// defaultRules are those of a provider that has none of its own. On managed
// storage the whole bucket is the team's; elsewhere only its folder is.
func defaultRules(p purser.Provider) classifier {
	folder := folderOf(p.TeamID)
	c := classifier{rest: unmatched}
	c.add(folder+"datasets/", purser.CategoryDataset)
	c.add(folder+"models/", purser.CategoryModel)
	c.add(folder+"notebooks/", purser.CategoryNotebookWorkspace)
	c.add(folder, purser.CategorySharedStorage)
	if p.Managed {
		c.rest = slotOf(purser.CategorySharedStorage)
	}
	return c
}

func ownRules(rules []purser.MeteringRule) classifier {
	c := classifier{rest: unmatched}
	for _, rule := range rules {
		c.add(rule.Prefix, rule.Category)
	}
	return c
}

// fingerprint returns 63 bits of the hash of what; kind keeps sorts apart.
func fingerprint(kind string, what any) int64 {
	text, err := json.Marshal(what)
	if err != nil {
		panic(err) // only plain structs come here
	}
	sum := sha256.Sum256(append([]byte(kind+"\n"), text...))
	return int64(binary.BigEndian.Uint64(sum[:8]) >> 1) // the shift leaves 63 bits
}

// open opens a part of the source.
func (s *Service) open(ctx context.Context, p *plan, part engine.Span, oneChain bool) (source.Source, error) {
	if p.source.ProviderID == "" {
		return s.OpenTree(ctx, p.tree, part.Cursor)
	}
	bucket, err := s.unseal(p)
	if err != nil {
		return nil, err
	}
	bucket.What, bucket.After, bucket.Until, bucket.OneChain = part.What, part.After, part.Until, oneChain
	return s.OpenBucket(ctx, bucket, part.Cursor)
}

// unseal returns the bucket with its secret, which is opened here and nowhere
// else, and goes no further than the source.
func (s *Service) unseal(p *plan) (source.Bucket, error) {
	if !p.located {
		return source.Bucket{}, &source.Error{ScanError: purser.ScanError{
			Code:    source.CodeEndpointMissing,
			Message: "The site of this bucket has no endpoint yet.",
			Hint:    "Set the provider's endpoint, or have the operator give the site one (--site).",
		}}
	}
	secret, err := s.Opener.Open(p.credential.Sealed, seal.Binding{
		Team: p.source.TeamID, Provider: p.source.ProviderID, Field: seal.SecretAccessKey, Version: p.credential.Version,
	})
	if err != nil {
		return source.Bucket{}, &source.Error{
			ScanError: purser.ScanError{
				Code:    source.CodeInternal,
				Message: "The stored secret of this provider cannot be opened.",
				Hint:    "The operator's log says why; setting the secret again may help.",
			},
			Temporary: purser.KindOf(err) == purser.KindUnavailable, Err: err,
		}
	}
	bucket := p.bucket
	bucket.Secret = secret
	return bucket, nil
}
