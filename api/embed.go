// Package api holds the description of Purser's HTTP API: openapi.yaml, written
// by hand, and openapi.json, made from it. Whoever serves or checks the API
// reads it from here; nothing in it is kept by hand twice.
package api

import _ "embed"

//go:generate go run gen.go

// OpenAPI is the description as compact JSON (OpenAPI 3.1), exactly as
// GET /v1/openapi.json answers it.
//
//go:embed openapi.json
var OpenAPI []byte
