package purser

import (
	"maps"
	"slices"
	"strings"
)

// Site is what the contract calls a region: a place that supplies the endpoint
// and the signing region of buckets that name none of their own.
type Site struct {
	Name string
	// Endpoint is where the site's S3 service answers; empty while the operator has
	// not said.
	Endpoint string
	// SigningRegion is the region that requests to it are signed for; empty means:
	// find out.
	SigningRegion string
}

// Sites are the sites of a server by name.
type Sites map[string]Site

// contractSites are the regions that the contract documents.
var contractSites = []string{"ny2", "ca1", "ams1"}

// NewSites returns the documented sites and the configured ones; a configured
// one with a documented name gives it an endpoint.
func NewSites(configured ...Site) Sites {
	sites := Sites{}
	for _, name := range contractSites {
		sites[name] = Site{Name: name}
	}
	for _, site := range configured {
		sites[site.Name] = site
	}
	return sites
}

// Check says what is wrong with the name of a site, or returns "".
func (s Sites) Check(name string) string {
	if _, known := s[name]; known {
		return ""
	}
	return "must be one of: " + strings.Join(slices.Sorted(maps.Keys(s)), ", ")
}

// Locate returns where a bucket answers and which region its requests are
// signed for. An empty endpoint is AWS, an empty region is to be found out. It
// reports false if the bucket relies on a site that has no endpoint yet.
func (s Sites) Locate(c S3Config) (endpoint, signingRegion string, ok bool) {
	if c.Region == "" {
		return c.Endpoint, "", true
	}
	site := s[c.Region]
	if c.Endpoint != "" {
		return c.Endpoint, site.SigningRegion, true
	}
	return site.Endpoint, site.SigningRegion, site.Endpoint != ""
}

// Tree is a directory tree that the operator has named: each team has a part of
// it, and what lies there counts for one category.
type Tree struct {
	Category Category
	// Path is absolute and contains {team}, which stands for the team's id.
	Path string
	// Method says how it is measured; the zero value leaves that to the file system.
	Method TreeMethod
}

// TreeMethod is a way to measure a tree.
type TreeMethod string

// The file system's own sums take no time, but are its own idea of what a byte
// is.
const (
	TreeAuto  TreeMethod = ""      // the file system's own sum where there is one, else a walk
	TreeWalk  TreeMethod = "walk"  // each file is looked up
	TreeQuota TreeMethod = "quota" // what the project quota (XFS, ext4) of the team's directory has counted, in blocks
	TreeCeph  TreeMethod = "ceph"  // the recursive statistics of CephFS
)

// TreeMethods are those that can be asked for by name.
var TreeMethods = []TreeMethod{TreeWalk, TreeQuota, TreeCeph}

// Root is the directory of one team.
func (t Tree) Root(team TeamID) string {
	return strings.ReplaceAll(t.Path, "{team}", string(team))
}
