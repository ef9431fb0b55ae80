// Package client talks to a Purser server from Go.
//
// A Client has one method for each operation of the API
// (api/openapi.yaml); what goes in and comes out are the types of package
// purser. Of these, the fields that the API does not show (versions, the ids of
// sources) stay zero.
//
// What always holds: every failure is an *Error; a call that may be repeated is
// repeated a few times when the server is busy or the connection breaks, and a
// change is never made twice by that; the API key goes to the configured server
// and nowhere else. The package leaves to its callers how often to ask and what
// to do about failures.
//
// A Client is safe for concurrent use.
package client

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/oas"
)

// prefix is where the API lives below a server's address.
const prefix = "/v1"

// Config says which server to talk to, and as whom. URL is needed.
type Config struct {
	// URL is the server's address, with or without the /v1 of the API.
	URL string
	// APIKey is who is asking; without it only health, the description of the
	// API and an empty session are to be had.
	APIKey purser.Secret
	// HTTPClient sends the requests; nil means one that uses the proxy of the
	// environment and gives up on an answer after a minute. Its CheckRedirect is
	// not used: redirects are never followed.
	HTTPClient *http.Client
	// UserAgent names the program that is asking; empty means purser-go.
	UserAgent string
	// Attempts is how often a call is sent at most; 0 means 4.
	Attempts int
}

// Client is a server and a key to it.
type Client struct {
	api *oas.Client
	url string
}

// New makes a client. Nothing is sent yet.
func New(c Config) (*Client, error) {
	base, err := baseURL(c.URL)
	if err != nil {
		return nil, err
	}
	sender := &transport{
		http:      withoutRedirects(c.HTTPClient),
		server:    strings.TrimSuffix(base, prefix),
		key:       c.APIKey,
		userAgent: cmp.Or(c.UserAgent, "purser-go"),
		attempts:  max(1, cmp.Or(c.Attempts, 4)),
	}
	api, err := oas.NewClient(base, noKey{}, oas.WithClient(sender))
	if err != nil {
		return nil, err
	}
	return &Client{api: api, url: sender.server}, nil
}

// URL is the server's address, without the /v1 of the API.
func (c *Client) URL() string { return c.url }

// baseURL returns where the API of the server at address is.
func baseURL(address string) (string, error) {
	u, err := url.Parse(strings.TrimSpace(address))
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return "", errors.New("the server's URL must be an absolute one, such as http://127.0.0.1:8080")
	case u.User != nil:
		return "", errors.New("the server's URL must not contain a user name or password; who is asking is said by the API key")
	case u.RawQuery != "" || u.Fragment != "":
		return "", errors.New("the server's URL must not contain a query or a fragment")
	}
	path := strings.TrimRight(u.Path, "/")
	u.Path, u.RawPath = strings.TrimSuffix(path, prefix)+prefix, ""
	return u.String(), nil
}

// withoutRedirects returns a client that answers redirects instead of following
// them: the key must not travel to where a server points.
func withoutRedirects(given *http.Client) *http.Client {
	if given == nil {
		given = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: 45 * time.Second,
			IdleConnTimeout:       90 * time.Second,
			ForceAttemptHTTP2:     true,
		}}
	}
	c := *given
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// noKey is what the generated client gets for a key: the transport sends the
// real one, so that it is in one place.
type noKey struct{}

func (noKey) BearerAuth(context.Context, oas.OperationName) (oas.BearerAuth, error) {
	return oas.BearerAuth{}, nil
}
