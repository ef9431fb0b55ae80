package httpapi

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/purserhq/purser"
)

// Limits on bodies, whatever they say.
const (
	maxBody  = 64 << 10
	maxDepth = 16
)

// body is a checked request body, as ogen reads it.
type body struct{ bytes.Reader }

func (*body) Close() error { return nil }

// check holds a request against the contract: its parameters, its body and its
// cursor. All faults are reported together. It returns the body to decode (nil
// if the operation has none) and the hash by which a retry is recognised.
func (s *Server) check(c *call, r *http.Request, path *url.URL) (*body, [32]byte, error) {
	faults := purser.Faults{}
	s.checkParameters(c, r, faults)
	if c.op.body == nil {
		return nil, [32]byte{}, purser.Invalid("httpapi.check", faults)
	}
	raw, err := readBody(r)
	if err != nil {
		return nil, [32]byte{}, err
	}
	hash := bodyHash(c.op, path, raw)
	value, err := parseJSON(raw)
	if err != nil {
		return nil, hash, c.op.describe(err, faults)
	}
	if c.strictClient && c.op.id == "storageProviders-update" {
		raw = addDefault(raw, value, "isTeamDefault", false)
	}
	checkBody(c.op.body, value, faults)
	if err := purser.Invalid("httpapi.check", faults); err != nil {
		return nil, hash, err
	}
	checked := &body{}
	checked.Reset(raw)
	return checked, hash, nil
}

// addDefault adds a member to the top-level object, in both its forms, unless
// it is there. That client drops members that are false (docs/clients.md,
// quirk 1).
func addDefault(raw []byte, value any, name string, fallback bool) []byte {
	members, is := value.(map[string]any)
	if _, given := members[name]; !is || given {
		return raw
	}
	separator := ","
	if len(members) == 0 {
		separator = ""
	}
	members[name] = fallback
	rest := bytes.TrimLeft(raw, " \t\r\n")[1:]
	return fmt.Appendf(nil, "{%q:%t%s%s", name, fallback, separator, rest)
}

// bodyHash names a change: the operation, what it is done to, and the bytes of
// the body.
func bodyHash(op *operation, path *url.URL, raw []byte) [32]byte {
	h := sha256.New()
	_, _ = io.WriteString(h, op.method+" "+path.Path+"\n")
	_, _ = h.Write(raw)
	return [32]byte(h.Sum(nil))
}

// readBody reads the whole body. Nil means that none was sent.
func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil || r.ContentLength == 0 {
		return nil, nil
	}
	// A body of unknown length may be none at all: its type matters only then.
	if r.ContentLength > 0 && !isJSON(r.Header) {
		return nil, errContentType
	}
	if r.ContentLength > maxBody {
		return nil, errTooLarge
	}
	size := max(r.ContentLength, 512)
	buffer := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	_, err := buffer.ReadFrom(io.LimitReader(r.Body, maxBody+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, errTimeout
	case err != nil:
		return nil, &purser.Error{Kind: purser.KindCanceled, Op: "httpapi.body", Err: err}
	case buffer.Len() == 0:
		return nil, nil
	case !isJSON(r.Header):
		return nil, errContentType
	case buffer.Len() > maxBody:
		return nil, errTooLarge
	}
	return buffer.Bytes(), nil
}

// isJSON reports whether the body says of itself that it is JSON in UTF-8.
func isJSON(header http.Header) bool {
	contentType := header.Get("Content-Type")
	if contentType == "application/json" {
		return true
	}
	media, parameters, err := mime.ParseMediaType(contentType)
	charset, named := parameters["charset"]
	return err == nil && media == "application/json" && (!named || strings.EqualFold(charset, "utf-8"))
}

// errNoBody is a body that is missing.
var errNoBody = errors.New("no body")

// errDepth is JSON that is nested too deeply.
var errDepth = errors.New("nested too deeply")

// parseJSON reads strict JSON: one value, no member twice, valid UTF-8, no lone
// surrogates, nothing behind it. Numbers become int64 or float64.
func parseJSON(raw []byte) (any, error) {
	if len(raw) == 0 {
		return nil, errNoBody
	}
	decoder := jsontext.NewDecoder(bytes.NewReader(raw))
	value, err := parseValue(decoder)
	if err != nil {
		return nil, err
	}
	if _, err := decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, &jsontext.SyntacticError{ByteOffset: decoder.InputOffset()}
	}
	return value, nil
}

func parseValue(decoder *jsontext.Decoder) (any, error) {
	token, err := decoder.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case 'n':
		return nil, nil
	case 't', 'f':
		return token.Bool(), nil
	case '"':
		return token.String(), nil
	case '0':
		return parseNumber(token.String()), nil
	}
	if decoder.StackDepth() > maxDepth {
		return nil, errDepth
	}
	if token.Kind() == '[' {
		return parseArray(decoder)
	}
	return parseObject(decoder)
}

func parseArray(decoder *jsontext.Decoder) (any, error) {
	items := []any{}
	for decoder.PeekKind() != ']' {
		item, err := parseValue(decoder)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	_, err := decoder.ReadToken()
	return items, err
}

func parseObject(decoder *jsontext.Decoder) (any, error) {
	members := map[string]any{}
	for decoder.PeekKind() != '}' {
		name, err := decoder.ReadToken()
		if err != nil {
			return nil, err
		}
		key := name.String() // before the next read, which takes the token's memory
		if members[key], err = parseValue(decoder); err != nil {
			return nil, err
		}
	}
	_, err := decoder.ReadToken()
	return members, err
}

// parseNumber keeps whole numbers exact. It never makes big numbers of them:
// 1e999999999 is short to send and long to write out.
func parseNumber(digits string) any {
	if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
		return n
	}
	f, _ := strconv.ParseFloat(digits, 64) // out of range is infinite, which is out of any limit
	return clamp(f)
}

// describe turns an error of parseJSON into one for people. The decoder's own
// text is not used: it may quote what was sent.
func (o *operation) describe(err error, faults purser.Faults) error {
	const op = "httpapi.parse"
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, errNoBody):
		faults[""] = required
		return purser.Invalid(op, faults)
	case errors.Is(err, errDepth):
		faults[""] = fmt.Sprintf("must be nested at most %d levels deep", maxDepth)
		return purser.Invalid(op, faults)
	case errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &syntax):
		pointer, described := describedPointer(o.body, syntax.JSONPointer)
		faults[pointer] = "is given twice"
		if !described {
			faults[pointer] = "has a field that is given twice"
		}
		return purser.Invalid(op, faults)
	case errors.As(err, &syntax):
		return purser.Errorf(kindParse, op, "The body is not valid JSON; the fault is at or after byte %d.", syntax.ByteOffset)
	}
	return purser.Errorf(kindParse, op, "The body is not valid JSON; it ends too early.")
}

// checkParameters checks the query and header parameters that the contract
// describes; others are ignored.
func (s *Server) checkParameters(c *call, r *http.Request, faults purser.Faults) {
	for i := range c.op.header {
		p := &c.op.header[i]
		values := r.Header[p.name]
		if len(values) > 1 && p.name == "If-Match" { // a list may come in several lines
			values = []string{strings.Join(values, ", ")}
			r.Header[p.name] = values
		}
		p.check(values, faults)
	}
	if len(c.op.query) == 0 {
		return
	}
	var query url.Values
	if r.URL.RawQuery != "" {
		var err error
		if query, err = url.ParseQuery(r.URL.RawQuery); err != nil {
			faults["?"] = "must be a well-formed query"
			return
		}
	}
	for i := range c.op.query {
		p := &c.op.query[i]
		p.check(query[p.name], faults)
	}
	if after := query.Get("after"); c.op.paged && query.Has("after") && faults["?after"] == "" {
		position, valid := s.cursors.decode(c.place(query), after)
		if !valid {
			faults["?after"] = "must be the nextPage of a page of this very list; leave it out to start again"
		}
		c.after = position
	}
}

// place is where the cursors of a list request come from and go to.
func (c *call) place(query url.Values) place {
	at := place{list: c.op.id, team: c.principal.TeamID, ascending: query.Get("order") == "asc"}
	if query.Has("teamId") {
		at.team = purser.TeamID(cleanID(query.Get("teamId")))
	}
	return at
}

// check files what is wrong with the values of a parameter.
func (p *parameter) check(values []string, faults purser.Faults) {
	switch {
	case len(values) == 0:
		return // none of the contract's is required
	case len(values) > 1:
		faults[p.pointer] = "must be given once only"
		return
	case strings.ContainsFunc(values[0], func(r rune) bool { return r < ' ' || r > '~' }):
		faults[p.pointer] = "must consist of printable ASCII characters"
		return
	}
	var value any = values[0]
	if p.integer {
		if !isDigits(strings.TrimPrefix(values[0], "-")) {
			faults[p.pointer] = "must be a whole number"
			return
		}
		value = parseNumber(values[0])
	}
	if err := p.schema.Validate(value); err != nil {
		found := purser.Faults{}
		collect(err, found)
		for _, sentence := range found {
			faults[p.pointer] = sentence
		}
	}
}

// isDigits reports whether s is decimal digits and nothing else.
func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
