//go:build ignore

// This program makes openapi.json from openapi.yaml: the same keys in the same
// order, without white space, aliases resolved. The same input always gives the
// same bytes.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"os"

	"go.yaml.in/yaml/v3"
)

func main() {
	log.SetFlags(0)
	text, err := os.ReadFile("openapi.yaml")
	if err != nil {
		log.Fatal(err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		log.Fatal(err)
	}
	var out bytes.Buffer
	if err := write(&out, &document); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile("openapi.json", out.Bytes(), 0o644); err != nil {
		log.Fatal(err)
	}
}

func write(out *bytes.Buffer, node *yaml.Node) error {
	switch node.Kind {
	case yaml.DocumentNode:
		return write(out, node.Content[0])
	case yaml.AliasNode:
		return write(out, node.Alias)
	case yaml.MappingNode:
		return writeList(out, '{', '}', node.Content, 2)
	case yaml.SequenceNode:
		return writeList(out, '[', ']', node.Content, 1)
	default:
		return writeScalar(out, node)
	}
}

// writeList writes the nodes in groups of width: one for a list, two (a key and
// its value) for an object.
func writeList(out *bytes.Buffer, open, shut byte, nodes []*yaml.Node, width int) error {
	out.WriteByte(open)
	for i, node := range nodes {
		switch {
		case i > 0 && i%width == 0:
			out.WriteByte(',')
		case width == 2 && i%2 == 1:
			out.WriteByte(':')
		}
		if width == 2 && i%2 == 0 {
			// Keys are text whatever they look like: 200, null, on.
			if node.Tag == "!!merge" {
				return fmt.Errorf("line %d: merge keys are not supported", node.Line)
			}
			node = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: node.Value}
		}
		if err := write(out, node); err != nil {
			return err
		}
	}
	out.WriteByte(shut)
	return nil
}

func writeScalar(out *bytes.Buffer, node *yaml.Node) error {
	var value any
	switch node.Tag {
	case "!!str":
		value = node.Value
	case "!!bool", "!!int", "!!float", "!!null":
		if err := node.Decode(&value); err != nil {
			return fmt.Errorf("line %d: %w", node.Line, err)
		}
	default: // dates and the like have no JSON form: quote them
		return fmt.Errorf("line %d: a %s has no JSON form", node.Line, node.Tag)
	}
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("line %d: %w", node.Line, err)
	}
	out.Truncate(out.Len() - 1) // the line break that Encode adds
	return nil
}
