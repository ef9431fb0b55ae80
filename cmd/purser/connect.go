package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/client"
)

const defaultURL = "http://127.0.0.1:8080"

const environmentHelp = `The commands talk to a Purser server. Where it is, the first of these says:
  --url ADDRESS
  PURSER_URL, PAPERSPACE_API_URL
  url in the configuration file
  ` + defaultURL + `

Who is asking, the first of these says:
  --api-key-file FILE
  PURSER_API_KEY, PURSER_API_KEY_FILE, PAPERSPACE_API_KEY
  apiKey or apiKeyFile in the configuration file

The configuration file is $XDG_CONFIG_HOME/purser/config.yaml, where
$XDG_CONFIG_HOME is ~/.config unless it is set:
  url: https://purser.example.com
  apiKeyFile: /home/me/purser.key
A file that holds an apiKey must be for its owner only (chmod 600).

The first start of a server leaves a key in operator.key in its data directory.

NO_COLOR switches bold type off.`

// clientConfig is the configuration file of the client commands.
type clientConfig struct {
	URL        string `yaml:"url"`
	APIKey     string `yaml:"apiKey"`
	APIKeyFile string `yaml:"apiKeyFile"`
}

// connect makes a client from flags, environment and configuration file, in
// this order. Nothing is sent yet.
func (e *environment) connect() (*client.Client, error) {
	config, err := e.readConfig()
	if err != nil {
		return nil, err
	}
	key, err := e.apiKey(config)
	if err != nil {
		return nil, err
	}
	c, err := client.New(client.Config{
		URL:       first(e.url, e.getenv("PURSER_URL"), e.getenv("PAPERSPACE_API_URL"), config.URL, defaultURL),
		APIKey:    key,
		UserAgent: "purser/" + readVersion().Version,
	})
	if err != nil {
		return nil, usageError{err.Error()}
	}
	return c, nil
}

func first(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}

// apiKey finds the API key; the zero Secret if there is none, for the server
// decides what needs one.
func (e *environment) apiKey(config clientConfig) (purser.Secret, error) {
	switch {
	case e.keyFile != "":
		return e.readSecretFile(e.keyFile)
	case e.getenv("PURSER_API_KEY") != "":
		return purser.NewSecret(e.getenv("PURSER_API_KEY")), nil
	case e.getenv("PURSER_API_KEY_FILE") != "":
		return e.readSecretFile(e.getenv("PURSER_API_KEY_FILE"))
	case e.getenv("PAPERSPACE_API_KEY") != "":
		return purser.NewSecret(e.getenv("PAPERSPACE_API_KEY")), nil
	case config.APIKey != "":
		return purser.NewSecret(config.APIKey), nil
	case config.APIKeyFile != "":
		return e.readSecretFile(config.APIKeyFile)
	}
	return purser.Secret{}, nil
}

// configPath is where the configuration file is (XDG Base Directory
// Specification 0.8); "" if not even the home directory is known.
func (e *environment) configPath() string {
	dir := e.getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) { // the specification wants relative ones ignored
		home := e.getenv("HOME")
		if home == "" {
			return ""
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "purser", "config.yaml")
}

// readConfig reads the configuration file; none is as good as an empty one.
func (e *environment) readConfig() (clientConfig, error) {
	var config clientConfig
	path := e.configPath()
	if path == "" {
		return config, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return config, nil
	}
	if err != nil {
		return config, fmt.Errorf("the configuration file cannot be read: %w", err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	info, err := f.Stat()
	if err != nil {
		return config, fmt.Errorf("the configuration file cannot be read: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSecretFile))
	if err != nil {
		return config, fmt.Errorf("the configuration file cannot be read: %w", err)
	}
	return config, config.parse(path, info.Mode(), text)
}

// parse reads the text of a configuration file. What the parser says is not
// repeated, because it may quote the key.
func (c *clientConfig) parse(path string, mode fs.FileMode, text []byte) error {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s is not a configuration file: it must be YAML with url, apiKey and apiKeyFile at most, each once", path)
	}
	switch {
	case c.APIKey != "" && c.APIKeyFile != "":
		return fmt.Errorf("%s has both apiKey and apiKeyFile; remove one of them", path)
	case c.APIKey != "" && mode.Perm()&0o077 != 0:
		return fmt.Errorf("%s holds an API key and can be read by others; run: chmod 600 %s", path, path)
	}
	return nil
}
