package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/client"
)

func newProviderCommand(e *environment) *cobra.Command {
	group := newGroup("provider", "Register, change and measure buckets",
		newListCommand(e, "List the team's storage providers", providerListing),
		newProviderGetCommand(e),
		newProviderCreateCommand(e),
		newProviderUpdateCommand(e),
		newProviderDeleteCommand(e),
		newProviderScanCommand(e),
		newProviderHealthCommand(e),
		newMeteringCommand(e),
	)
	group.Aliases = []string{"storage-provider", "providers"}
	return e.clientFlags(group)
}

func providerListing(c *client.Client) listing[purser.Provider] {
	return listing[purser.Provider]{
		page:   c.ListProviders,
		all:    c.EachProvider,
		titles: []string{"ID", "NAME", "BUCKET", "ENDPOINT", "REGION", "DEFAULT", "MANAGED"},
		cells: func(p purser.Provider) []string {
			return []string{string(p.ID), p.Name, p.S3.Bucket, orDash(p.S3.Endpoint), orDash(p.S3.Region), yesNo(p.TeamDefault), yesNo(p.Managed)}
		},
		document: func(p purser.Provider) any { return toProviderJSON(p) },
		none:     "Your team has no storage providers yet; register a bucket with: purser provider create",
	}
}

func (e *environment) printProvider(p purser.Provider) error {
	people := newList()
	people.row("Id", string(p.ID))
	people.row("Name", p.Name)
	people.row("Bucket", p.S3.Bucket)
	people.row("Endpoint", orDash(p.S3.Endpoint))
	people.row("Region", orDash(p.S3.Region))
	people.row("Access key", p.S3.AccessKey)
	people.row("Signature version", orDash(p.S3.SignatureVersion))
	people.row("Team default", yesNo(p.TeamDefault))
	people.row("Managed", yesNo(p.Managed))
	people.row("Retain data", yesNo(p.S3.RetainData))
	return e.print(toProviderJSON(p), people)
}

func newProviderGetCommand(e *environment) *cobra.Command {
	return &cobra.Command{
		Use: "get ID", Short: "Show a storage provider", Args: one("provider id"), ValidArgsFunction: e.completeProvider,
		RunE: e.withClient(func(ctx context.Context, c *client.Client, args []string) error {
			p, _, err := c.GetProvider(ctx, purser.ProviderID(args[0]))
			if err != nil {
				return err
			}
			return e.printProvider(p)
		}),
	}
}

// providerFlags are the flags that describe a provider.
type providerFlags struct {
	draft      purser.ProviderDraft
	secretFile string
	given      *pflag.FlagSet
}

func (f *providerFlags) add(flags *pflag.FlagSet) {
	f.given = flags
	d := &f.draft
	flags.StringVarP(&d.Name, "name", "n", "", "what people call it")
	flags.StringVar(&d.S3.Bucket, "bucket", "", "name of the bucket")
	flags.StringVar(&d.S3.AccessKey, "access-key", "", "public half of the credential")
	flags.StringVar(&f.secretFile, "secret-file", "", "`FILE` that holds the secret half, - for stdin (environment "+secretVariable+")")
	flags.StringVar(&d.S3.Endpoint, "endpoint", "", "`URL` of the S3 service; that of the site, or AWS, if empty")
	flags.StringVar(&d.S3.Region, "region", "", "site the bucket is filed under")
	flags.StringVar(&d.S3.SignatureVersion, "signature-version", "", "v4 or v2; v4 if empty")
	flags.BoolVar(&d.S3.RetainData, "retain-data", false, "keep the objects when the provider is deleted")
	flags.BoolVar(&d.TeamDefault, "is-team-default", false, "make it the one that is used where none is named")
}

func newProviderCreateCommand(e *environment) *cobra.Command {
	var f providerFlags
	cmd := &cobra.Command{
		Use: "create --name NAME --bucket BUCKET --access-key KEY", Short: "Register a bucket", Args: cobra.NoArgs,
		Long: `Register a bucket. Its first scan starts by itself and shows whether the
credential works: purser scan list.

The secret access key comes from --secret-file, from the environment
(` + secretVariable + `), or is asked for; it is never part of the command line.`,
		Example: `  purser provider create --name "Training data" --bucket training-data \
    --endpoint https://s3.example.com --access-key AKIAIOSFODNN7EXAMPLE`,
		RunE: e.withClient(func(ctx context.Context, c *client.Client, _ []string) error {
			secret, err := e.secretAccessKey(ctx, f.secretFile)
			if err != nil {
				return err
			}
			f.draft.Secret = secret
			p, _, err := c.CreateProvider(ctx, f.draft)
			if err != nil {
				return err
			}
			return e.printProvider(p)
		}),
	}
	f.add(cmd.Flags())
	for _, name := range []string{"name", "bucket", "access-key"} {
		_ = cmd.MarkFlagRequired(name) // fails for unknown flags only
	}
	return cmd
}

func newProviderUpdateCommand(e *environment) *cobra.Command {
	var (
		f         providerFlags
		newSecret bool
	)
	cmd := &cobra.Command{
		Use: "update ID", Short: "Change a storage provider", Args: one("provider id"), ValidArgsFunction: e.completeProvider,
		Long: `Change what the flags say and leave the rest as it is. An empty value
removes an endpoint, a region or a signature version.

Whoever changes where the credential is used (endpoint, bucket, region or
access key) has to give the secret access key again: otherwise a stored secret
could be sent to a stranger's server.`,
		RunE: e.withClient(func(ctx context.Context, c *client.Client, args []string) error {
			p, err := e.updateProvider(ctx, c, purser.ProviderID(args[0]), &f, newSecret)
			if err != nil {
				return err
			}
			return e.printProvider(p)
		}),
	}
	f.add(cmd.Flags())
	cmd.Flags().BoolVar(&newSecret, "new-secret", false, "take a new secret access key from the environment, or ask for it")
	return cmd
}

// updateProvider changes the provider as it is now: if somebody else changes it
// at the same time, nothing is lost but this command fails.
func (e *environment) updateProvider(ctx context.Context, c *client.Client, id purser.ProviderID, f *providerFlags, newSecret bool) (purser.Provider, error) {
	before, tag, err := c.GetProvider(ctx, id)
	if err != nil {
		return purser.Provider{}, err
	}
	draft := purser.ProviderDraft{Name: before.Name, TeamDefault: before.TeamDefault, S3: before.S3}
	if !f.change(&draft) && f.secretFile == "" && !newSecret {
		return purser.Provider{}, usageError{"nothing to change; say what is to be different"}
	}
	if newSecret || f.secretFile != "" || !draft.S3.SameLocation(before.S3) {
		draft.Secret, err = e.secretAccessKey(ctx, f.secretFile)
		if err != nil {
			return purser.Provider{}, err
		}
	}
	p, _, err := c.UpdateProvider(ctx, id, draft, client.IfMatch(tag))
	return p, err
}

// change applies the flags that were given to d and reports whether there were
// any.
func (f *providerFlags) change(d *purser.ProviderDraft) bool {
	fields := map[string]func(){
		"name":              func() { d.Name = f.draft.Name },
		"bucket":            func() { d.S3.Bucket = f.draft.S3.Bucket },
		"access-key":        func() { d.S3.AccessKey = f.draft.S3.AccessKey },
		"endpoint":          func() { d.S3.Endpoint = f.draft.S3.Endpoint },
		"region":            func() { d.S3.Region = f.draft.S3.Region },
		"signature-version": func() { d.S3.SignatureVersion = f.draft.S3.SignatureVersion },
		"retain-data":       func() { d.S3.RetainData = f.draft.S3.RetainData },
		"is-team-default":   func() { d.TeamDefault = f.draft.TeamDefault },
	}
	given := false
	for name, apply := range fields {
		if f.given.Changed(name) {
			apply()
			given = true
		}
	}
	return given
}

func newProviderDeleteCommand(e *environment) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "delete ID", Aliases: []string{"rm"}, Short: "Delete a storage provider", Args: one("provider id"), ValidArgsFunction: e.completeProvider,
		RunE: e.withClient(func(ctx context.Context, c *client.Client, args []string) error {
			id := purser.ProviderID(args[0])
			p, tag, err := c.GetProvider(ctx, id)
			if err != nil {
				return err
			}
			if err := e.confirm(ctx, yes, "Delete the storage provider "+p.Name+" (bucket "+p.S3.Bucket+")?"); err != nil {
				return err
			}
			if err := c.DeleteProvider(ctx, id, client.IfMatch(tag)); err != nil {
				return err
			}
			return e.printDeleted(args[0], "Deleted")
		}),
	}
	yesFlag(cmd, &yes)
	return cmd
}

func yesFlag(cmd *cobra.Command, yes *bool) {
	cmd.Flags().BoolVarP(yes, "yes", "y", false, "do not ask")
}

// printDeleted answers a deletion: the id for programs, a word for people.
func (e *environment) printDeleted(id, word string) error {
	if e.json {
		return e.printJSON(idJSON{id})
	}
	e.say("%s %s.", word, id)
	return nil
}

func newMeteringCommand(e *environment) *cobra.Command {
	return newGroup("metering", "Say which keys of a bucket count as what",
		newMeteringGetCommand(e),
		newMeteringSetCommand(e),
	)
}

func newMeteringGetCommand(e *environment) *cobra.Command {
	return &cobra.Command{
		Use: "get ID", Short: "Show a provider's rules", Args: one("provider id"), ValidArgsFunction: e.completeProvider,
		RunE: e.withClient(func(ctx context.Context, c *client.Client, args []string) error {
			rules, err := c.MeteringRules(ctx, purser.ProviderID(args[0]))
			if err != nil {
				return err
			}
			return e.printRules(rules)
		}),
	}
}

func newMeteringSetCommand(e *environment) *cobra.Command {
	var (
		texts    []string
		defaults bool
	)
	cmd := &cobra.Command{
		Use: "set ID --rule CATEGORY=PREFIX...", Short: "Replace a provider's rules", Args: one("provider id"), ValidArgsFunction: e.completeProvider,
		Long: `Replace a provider's rules. The first rule whose prefix a key begins with
decides what the key counts as; keys that none matches are not counted, but
reported. A new scan starts at once.

The categories are ` + categoryNames() + `.`,
		Example: `  purser provider metering set splgct3arqdh77c --rule dataset=corpora/ --rule model=checkpoints/`,
		RunE: e.withClient(func(ctx context.Context, c *client.Client, args []string) error {
			rules, err := parseRules(texts)
			if err != nil {
				return err
			}
			rules, err = c.SetMeteringRules(ctx, purser.ProviderID(args[0]), rules)
			if err != nil {
				return err
			}
			return e.printRules(rules)
		}),
	}
	cmd.Flags().StringArrayVar(&texts, "rule", nil, "`CATEGORY=PREFIX`; may be given many times, the order counts")
	cmd.Flags().BoolVar(&defaults, "default", false, "go back to the default rules")
	cmd.MarkFlagsMutuallyExclusive("rule", "default")
	cmd.MarkFlagsOneRequired("rule", "default")
	return cmd
}

func categoryNames() string {
	names := make([]string, 0, len(purser.Categories))
	for _, c := range purser.Categories {
		names = append(names, string(c))
	}
	return strings.Join(names, ", ")
}

func parseRules(texts []string) ([]purser.MeteringRule, error) {
	var rules []purser.MeteringRule
	for _, text := range texts {
		category, prefix, found := strings.Cut(text, "=")
		if !found || !strings.Contains(", "+categoryNames()+",", ", "+category+",") {
			return nil, usagef("%q is not a rule; it must be CATEGORY=PREFIX with one of %s", text, categoryNames())
		}
		rules = append(rules, purser.MeteringRule{Category: purser.Category(category), Prefix: prefix})
	}
	return rules, nil
}

func (e *environment) printRules(rules []purser.MeteringRule) error {
	if len(rules) == 0 && !e.json {
		e.say("The provider has no rules of its own; the default rules count.")
		return nil
	}
	people := newTable("CATEGORY", "PREFIX")
	for _, rule := range rules {
		people.row(string(rule.Category), rule.Prefix)
	}
	return e.print(toRulesJSON(rules), people)
}

// completeProvider offers the ids of the team's newest providers to the shell.
// A shell that waits for it must not wait long, and gets nothing on failure.
func (e *environment) completeProvider(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	c, err := e.connect()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
	defer cancel()
	page, err := c.ListProviders(ctx, client.ListOptions{Limit: purser.MaxPageSize})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var ids []string
	for _, p := range page.Items {
		ids = append(ids, string(p.ID)+"\t"+plain(p.Name))
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}
