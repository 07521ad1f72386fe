package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxFile is the largest configuration that is read.
const maxFile = 4 << 20

// Load reads and checks the file. An error is either one of reading the file or of type Errors.
func Load(path string) (*Config, error) { return load(path, true) }

// LoadForScaler is Load for the process that has the engine and serves no clients: it need not have their certificates and keys.
func LoadForScaler(path string) (*Config, error) { return load(path, false) }

func load(path string, serves bool) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	return parse(path, data, serves)
}

// Parse reads and checks a config.toml; name stands in the positions of its errors. An error is of
// type Errors and holds every mistake, except that a text that is not TOML yields only the first
// place where it is not. Secrets are read here, so that a missing one is found by a check.
func Parse(name string, data []byte) (*Config, error) { return parse(name, data, true) }

func parse(name string, data []byte, serves bool) (*Config, error) {
	src := newSource(name, strings.TrimLeft(string(data), "\ufeff"))
	rep := &report{}
	if len(data) > maxFile {
		rep.add(src, "", 0, 0, "", fmt.Sprintf("the configuration is larger than %d MiB", maxFile>>20))
		return nil, rep.err()
	}
	root, deep := index(src)
	if deep >= 0 {
		rep.add(src, "", deep, deep+1, "", fmt.Sprintf("nested more than %d deep", maxNesting))
		return nil, rep.err()
	}
	var parsed map[string]any
	if _, err := toml.Decode(src.text, &parsed); err != nil {
		rep.syntax(src, err)
		return nil, rep.err()
	}
	c := Default()
	join(root, parsed)
	d := &decoder{report: rep, secrets: map[string]string{}}
	d.structure(root, reflect.ValueOf(c).Elem(), "")
	c.secrets = d.secrets
	k := &checker{report: rep, c: c, serves: serves}
	k.config(root)
	if err := rep.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// syntax reports what the TOML parser said. Its offsets are right where its lines may be one off.
func (r *report) syntax(src *source, err error) {
	var pe toml.ParseError
	if !errors.As(err, &pe) {
		r.add(src, "", 0, 0, "", err.Error())
		return
	}
	msg := strings.TrimSuffix(strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, pe.Message), ".")
	from, to := pe.Position.Start, pe.Position.Start+max(1, pe.Position.Len)
	for from >= 0 && from < to-1 && to <= len(src.text) && (src.text[from] == ' ' || src.text[from] == '\t') {
		from++ // what is meant stands behind the blanks
	}
	r.add(src, "", from, to, "", "not TOML: "+msg)
}
