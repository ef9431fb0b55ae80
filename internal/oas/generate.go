// Package oas is the wire form of the API as ogen derives it from
// api/openapi.yaml: types, a codec, a router, a server and a client.
//
// It knows no rules beyond the description, and nobody edits it: this file is
// the only one written by hand. Only internal/httpapi and client import it;
// everybody else speaks the words of the root package.
package oas

//go:generate go tool ogen --config ../../.ogen.yml --clean --package oas --target . ../../api/openapi.yaml
