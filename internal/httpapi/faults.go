package httpapi

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/purserhq/purser"
)

// formats are the formats of the contract, backed by the rules of the domain:
// each rule is written once, wherever its value comes from.
func formats(providers Providers) []*jsonschema.Format {
	secret := func(value string) string {
		if value == purser.MaskedSecret {
			return "must be the secret itself; " + purser.MaskedSecret + " only stands for one that is stored already"
		}
		return purser.CheckKey(value)
	}
	secretOrMask := func(value string) string {
		if value == "" || value == purser.MaskedSecret {
			return ""
		}
		return purser.CheckKey(value)
	}
	var list []*jsonschema.Format
	for name, check := range map[string]func(string) string{
		"name":              purser.CheckName,
		"uri":               providers.CheckEndpoint,
		"site":              providers.CheckSite,
		"key":               purser.CheckKey,
		"secret":            secret,
		"secret-or-mask":    secretOrMask,
		"bucket":            purser.CheckBucket,
		"signature-version": purser.CheckSignatureVersion,
		"namespace":         purser.CheckNamespace,
		"bytes":             checkBytes,
		"date-time":         checkTime,
		"if-match":          checkIfMatch,
	} {
		list = append(list, &jsonschema.Format{Name: name, Validate: func(v any) error {
			if text, is := v.(string); is {
				if sentence := check(text); sentence != "" {
					return errors.New(sentence)
				}
			}
			return nil
		}})
	}
	return list
}

// checkBytes says what is wrong with an amount of storage on the wire.
func checkBytes(amount string) string {
	if _, err := strconv.ParseInt(amount, 10, 64); err != nil || !isDigits(amount) {
		return "must be an amount of bytes: decimal digits, at most " + strconv.Itoa(math.MaxInt64)
	}
	return ""
}

// checkTime says what is wrong with a time on the wire.
func checkTime(text string) string {
	if _, err := time.Parse(time.RFC3339, text); err != nil {
		return "must be a time such as 2027-01-31T12:00:00Z"
	}
	return ""
}

// checkBody files everything that is wrong with a body. Fields that the schema
// does not describe are nobody's business.
func checkBody(schema *jsonschema.Schema, value any, faults purser.Faults) {
	if err := schema.Validate(value); err != nil {
		collect(err, faults)
	}
	inspect(schema, value, "", faults)
}

// collect files the sentences for what a validator found, under JSON pointers.
// The first finding about a part stands: a later one would only follow from it.
func collect(err error, faults purser.Faults) {
	var found *jsonschema.ValidationError
	if !errors.As(err, &found) {
		faults[""] = "does not fit the description of the API"
		return
	}
	for _, cause := range found.Causes {
		collect(cause, faults)
	}
	if len(found.Causes) > 0 {
		return
	}
	var pointer strings.Builder
	for _, token := range found.InstanceLocation {
		pointer.WriteString("/" + escapePointer(token))
	}
	if missing, is := found.ErrorKind.(*kind.Required); is {
		for _, name := range missing.Missing {
			file(faults, pointer.String()+"/"+escapePointer(name), required)
		}
		return
	}
	file(faults, pointer.String(), sentence(found.ErrorKind))
}

// required is what is said of a missing part.
const required = "is required"

func file(faults purser.Faults, pointer, sentence string) {
	if faults[pointer] == "" {
		faults[pointer] = sentence
	}
}

// sentence says what a validator found, without a word of what was sent.
func sentence(found jsonschema.ErrorKind) string {
	switch k := found.(type) {
	case *kind.Type:
		return typeSentence(k)
	case *kind.Enum:
		return "must be one of: " + join(k.Want)
	case *kind.Format:
		return k.Err.Error()
	case *kind.MinLength:
		if k.Want == 1 {
			return "must not be empty"
		}
		return fmt.Sprintf("must be at least %d characters", k.Want)
	case *kind.MaxLength:
		return fmt.Sprintf("must be at most %d characters", k.Want)
	case *kind.MaxItems:
		return fmt.Sprintf("must have at most %d entries", k.Want)
	case *kind.Minimum:
		return "must be at least " + k.Want.RatString()
	case *kind.Maximum:
		return "must be at most " + k.Want.RatString()
	}
	return "does not fit the description of the API"
}

func typeSentence(k *kind.Type) string {
	if k.Got == "null" {
		return "must not be null"
	}
	names := map[string]string{
		"string": "a string", "boolean": "true or false", "object": "an object",
		"array": "a list", "integer": "a whole number", "number": "a number", "null": "null",
	}
	want := slices.Clone(k.Want)
	slices.SortFunc(want, func(a, b string) int { // null is the least likely wish
		switch "null" {
		case a:
			return 1
		case b:
			return -1
		}
		return strings.Compare(a, b)
	})
	for i, name := range want {
		want[i] = names[name]
	}
	return "must be " + strings.Join(want, " or ")
}

func join(values []any) string {
	texts := make([]string, 0, len(values))
	for _, value := range values {
		texts = append(texts, fmt.Sprint(value))
	}
	return strings.Join(texts, ", ")
}

// inspect files what a schema cannot say: fields that are described in another
// case, which lax readers elsewhere would take for the described ones, and the
// character U+0000, which not every store can keep.
func inspect(schema *jsonschema.Schema, value any, pointer string, faults purser.Faults) {
	schema = resolve(schema)
	switch v := value.(type) {
	case string:
		if strings.Contains(v, "\x00") {
			file(faults, pointer, "must not contain the character U+0000")
		}
	case []any:
		if schema.Items2020 == nil {
			return
		}
		for i, item := range v {
			inspect(schema.Items2020, item, pointer+"/"+strconv.Itoa(i), faults)
		}
	case map[string]any:
		for name, member := range v {
			if described, is := schema.Properties[name]; is {
				inspect(described, member, pointer+"/"+escapePointer(name), faults)
				continue
			}
			for right := range schema.Properties {
				if strings.EqualFold(name, right) {
					// It is one fault, not two.
					if missing := pointer + "/" + escapePointer(right); faults[missing] == required {
						delete(faults, missing)
					}
					file(faults, pointer+"/"+escapePointer(name), "must be spelled "+right)
				}
			}
		}
	}
}

// resolve follows references.
func resolve(schema *jsonschema.Schema) *jsonschema.Schema {
	for schema.Ref != nil {
		schema = schema.Ref
	}
	return schema
}

// describedPointer returns as much of a pointer as the schema describes, and
// whether that is all of it. The rest was made up by the client and is not
// repeated.
func describedPointer(schema *jsonschema.Schema, pointer jsontext.Pointer) (string, bool) {
	described := ""
	for token := range pointer.Tokens() {
		schema = resolve(schema)
		next := schema.Properties[token]
		if next == nil && isDigits(token) {
			next = schema.Items2020
		}
		if next == nil {
			return described, false
		}
		schema, described = next, described+"/"+escapePointer(token)
	}
	return described, true
}

// clamp keeps f within what comparisons can take.
func clamp(f float64) float64 { return min(max(f, -math.MaxFloat64), math.MaxFloat64) }
