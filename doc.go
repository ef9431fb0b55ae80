// Package purser holds the words of Purser in plain Go: what a provider, a
// team, a scan and a utilization are, which values they may take, and how
// failures are described to people.
//
// It leaves to others how these things are stored (internal/store), who may
// touch them (internal/auth) and how they look on the wire (internal/httpapi).
// It imports nothing but the standard library, and nothing here carries JSON
// tags: the wire has types of its own.
package purser
