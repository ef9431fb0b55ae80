package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"go.yaml.in/yaml/v3"
)

// file returns what the file says that one of the layers names, the last one
// that does. No name is no file.
func (l *loader) file(layers ...layer) layer {
	var named value
	for _, layer := range layers {
		for _, v := range layer[configFile] {
			named = v
		}
	}
	if named.text == "" {
		return layer{}
	}
	text, err := readFile(named.text, 1<<20)
	if err != nil {
		l.fault(named.origin, err)
		return layer{}
	}
	return l.parse(named.text, text)
}

// parse reads YAML, as nodes because those know their lines.
func (l *loader) parse(path string, text []byte) layer {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document, second yaml.Node
	err := decoder.Decode(&document)
	switch {
	case errors.Is(err, io.EOF): // nothing but comments
		return layer{}
	case err != nil:
		l.fault(path, fmt.Errorf("not YAML: %w", err))
		return layer{}
	case !errors.Is(decoder.Decode(&second), io.EOF):
		l.fault(path, errors.New("must be one YAML document"))
		return layer{}
	}
	root := document.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return layer{}
	}
	if root.Kind != yaml.MappingNode {
		l.fault(path, errors.New("must be a list of keys with values, such as scan-interval: 1h"))
		return layer{}
	}
	return l.mapping(path, root)
}

func (l *loader) mapping(path string, root *yaml.Node) layer {
	var known, seen []string
	byName := map[string]option{}
	for _, o := range options {
		if o.name != configFile { // a file does not name another one
			known, byName[o.name] = append(known, o.name), o
		}
	}
	found := layer{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, node := root.Content[i], root.Content[i+1]
		origin := fmt.Sprintf("%s:%d: %s", path, key.Line, key.Value)
		o, isKnown := byName[key.Value]
		switch {
		case !isKnown:
			l.fault(origin, errors.New("there is no such key"+suggest(key.Value, known)))
			continue
		case slices.Contains(seen, key.Value):
			l.fault(origin, errors.New("is there twice"))
			continue
		}
		seen = append(seen, key.Value)
		values, err := o.values(path, node)
		if err != nil {
			l.fault(origin, err)
		} else if len(values) > 0 {
			found[o.name] = values
		}
	}
	return found
}

// values returns the texts of a YAML value: of a list, or of a single one.
func (o option) values(path string, node *yaml.Node) ([]value, error) {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	nodes := []*yaml.Node{node}
	if o.list && node.Kind == yaml.SequenceNode {
		nodes = node.Content
	}
	var values []value
	for _, n := range nodes {
		for n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		switch {
		case n.Kind != yaml.ScalarNode && o.list:
			return nil, errors.New("must be a list of texts")
		case n.Kind != yaml.ScalarNode:
			return nil, errors.New("must be a single text")
		case n.Value != "" && n.Tag != "!!null":
			values = append(values, value{n.Value, fmt.Sprintf("%s:%d: %s", path, n.Line, o.name)})
		}
	}
	return values, nil
}
