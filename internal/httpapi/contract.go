package httpapi

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/purserhq/purser/api"
	"github.com/purserhq/purser/internal/oas"
)

// contract is what the API description says about requests, compiled.
type contract struct {
	operations map[string]*operation // by operationId
}

// operation is one operation of the contract.
type operation struct {
	id     string
	method string
	path   string // the pattern, with the prefix
	// needsKey and takesKey tell the three sorts apart: an API key is needed,
	// looked at when it comes, or ignored.
	needsKey, takesKey bool
	body               *jsonschema.Schema // nil if there is none
	query, header      []parameter
	paged              bool // has a cursor among its parameters
}

// parameter is one query or header parameter.
type parameter struct {
	name    string // in canonical form for headers
	pointer string // what faults are filed under
	integer bool
	schema  *jsonschema.Schema
}

// served reports whether the generated router has the operation.
func (o *operation) served(routes *oas.Server) bool {
	path := strings.Replace(o.path, "{id}", malformedID, 1)
	route, found := routes.FindPath(o.method, &url.URL{Path: path})
	return found && route.OperationID() == o.id
}

// ids are the operation ids in alphabetical order.
func (c *contract) ids() []string { return slices.Sorted(maps.Keys(c.operations)) }

// contractURL is the base of references within the contract.
const contractURL = "https://purser.invalid/openapi.json"

// loadContract reads and compiles the embedded description.
func loadContract(formats []*jsonschema.Format) (*contract, error) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(api.OpenAPI))
	if err != nil {
		return nil, fmt.Errorf("httpapi: api/openapi.json: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	for _, format := range formats {
		compiler.RegisterFormat(format)
	}
	if err := compiler.AddResource(contractURL, document); err != nil {
		return nil, fmt.Errorf("httpapi: api/openapi.json: %w", err)
	}
	l := contractLoader{root: document, compiler: compiler}
	c := &contract{operations: map[string]*operation{}}
	for path, item := range object(object(document)["paths"]) {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
			if _, described := object(item)[strings.ToLower(method)]; !described {
				continue
			}
			o, err := l.operation(path, method)
			if err != nil {
				return nil, fmt.Errorf("httpapi: api/openapi.json: %s %s: %w", method, path, err)
			}
			c.operations[o.id] = o
		}
	}
	return c, nil
}

// contractLoader walks the description. What it does not understand becomes
// nil or empty on the way; the tests compare the outcome with the whole.
type contractLoader struct {
	root     any
	compiler *jsonschema.Compiler
}

func (l contractLoader) operation(path, method string) (*operation, error) {
	item := object(object(object(l.root)["paths"])[path])
	described := object(item[strings.ToLower(method)])
	location := "/paths/" + escapePointer(path) + "/" + strings.ToLower(method)
	o := &operation{method: method, path: Prefix + path, needsKey: true, takesKey: true}
	o.id, _ = described["operationId"].(string)
	if security, own := described["security"].([]any); own {
		o.takesKey = len(security) > 0
		o.needsKey = o.takesKey && !slices.ContainsFunc(security, func(s any) bool { return len(object(s)) == 0 })
	}
	if _, has := described["requestBody"]; has {
		schema, err := l.compiler.Compile(contractURL + "#" + url.PathEscape(location+"/requestBody/content/application~1json/schema"))
		if err != nil {
			return nil, err
		}
		o.body = schema
	}
	if err := l.parameters(o, item["parameters"], "/paths/"+escapePointer(path)+"/parameters"); err != nil {
		return nil, err
	}
	return o, l.parameters(o, described["parameters"], location+"/parameters")
}

// parameters adds the parameters in list, which is found at location.
func (l contractLoader) parameters(o *operation, list any, location string) error {
	items, _ := list.([]any)
	for i, item := range items {
		at, described := fmt.Sprintf("%s/%d", location, i), object(item)
		if ref, is := described["$ref"].(string); is {
			at = strings.TrimPrefix(ref, "#")
			described = object(l.at(at))
		}
		name, _ := described["name"].(string)
		in, _ := described["in"].(string)
		if in == "path" {
			continue // see malformedID
		}
		schema, err := l.compiler.Compile(contractURL + "#" + url.PathEscape(at+"/schema"))
		if err != nil {
			return err
		}
		p := parameter{name: name, pointer: "?" + name, schema: schema}
		p.integer = object(described["schema"])["type"] == "integer"
		switch in {
		case "query":
			o.query = append(o.query, p)
			o.paged = o.paged || name == "after"
		case "header":
			p.name, p.pointer = http.CanonicalHeaderKey(name), name
			o.header = append(o.header, p)
		default:
			return fmt.Errorf("parameter %q is in %q, which nothing here reads", name, in)
		}
	}
	return nil
}

// at returns what a JSON pointer into the description points at.
func (l contractLoader) at(pointer string) any {
	value := l.root
	for token := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		value = object(value)[unescapePointer.Replace(token)]
	}
	return value
}

// object returns v as an object, or an empty one.
func object(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

var (
	pointerEscaper  = strings.NewReplacer("~", "~0", "/", "~1")
	unescapePointer = strings.NewReplacer("~1", "/", "~0", "~")
)

// escapePointer makes one token of a JSON pointer (RFC 6901, section 3).
func escapePointer(token string) string { return pointerEscaper.Replace(token) }
