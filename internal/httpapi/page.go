package httpapi

import (
	"slices"
	"strconv"
	"strings"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/oas"
)

// page returns which page a list request asks for, and the place its cursors
// belong to. The cursor it came with was checked on the road.
func (c *call) page(limit oas.OptInt, order oas.OptOrder) (purser.PageRequest, place) {
	ascending := order.Or(oas.OrderDesc) == oas.OrderAsc
	request := purser.PageRequest{
		After:     c.after,
		Limit:     limit.Or(purser.DefaultPageSize),
		Ascending: ascending,
	}
	return request, place{list: c.op.id, team: c.principal.TeamID, ascending: ascending}
}

// next returns whether a page follows and the cursor that leads there.
func (h *handlers) next(at place, position purser.Position) (oas.HasMore, oas.NilNextPage) {
	if position.IsZero() {
		return false, oas.NilNextPage{Null: true}
	}
	return true, oas.NewNilNextPage(oas.NextPage(h.cursors.encode(at, position)))
}

// etag names a state of a provider. It is strong: two answers with the same tag
// have the same bytes (RFC 9110, section 8.8.1).
func etag(p purser.Provider) string {
	return `"` + string(p.ID) + "-" + strconv.FormatInt(p.Version, 10) + `"`
}

// ifMatch reads the condition of a change (RFC 9110, section 13.1.1): nil for
// none. Weak tags are allowed in the list and match nothing, because the
// comparison is the strong one.
func ifMatch(header oas.OptString) func(purser.Provider) bool {
	value, given := header.Get()
	if !given {
		return nil
	}
	if strings.TrimSpace(value) == "*" {
		return func(purser.Provider) bool { return true }
	}
	tags, _ := parseTags(value)
	return func(p purser.Provider) bool { return slices.Contains(tags, etag(p)) }
}

// checkIfMatch says what is wrong with the form of a condition. Whoever leaves
// the quotes out would otherwise only ever be told that the tag does not match.
func checkIfMatch(value string) string {
	if _, valid := parseTags(value); !valid && strings.TrimSpace(value) != "*" {
		return "must be * or the ETag of an answer, with its quotes"
	}
	return ""
}

// parseTags reads a list of entity tags; false if it is none. Quotes cannot
// occur within a tag, so a comma within one is found by counting them.
func parseTags(list string) ([]string, bool) {
	var tags []string
	for {
		list = strings.TrimLeft(list, " \t,")
		if list == "" {
			return tags, len(tags) > 0
		}
		opaque := strings.TrimPrefix(list, "W/")
		if !strings.HasPrefix(opaque, `"`) {
			return nil, false
		}
		end := strings.IndexByte(opaque[1:], '"')
		if end < 0 {
			return nil, false
		}
		length := len(list) - len(opaque) + end + 2
		tags, list = append(tags, list[:length]), strings.TrimLeft(list[length:], " \t")
		if list != "" && list[0] != ',' {
			return nil, false
		}
	}
}
