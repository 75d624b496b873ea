// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

func set(c *spec.Container, name, value string) {
	for i := range c.Env {
		if c.Env[i].Name == name {
			c.Env[i].Value = value
			return
		}
	}
	c.Env = append(c.Env, spec.EnvVar{Name: name, Value: value})
}

// environment reads the files of variables, and then the variables, which win.
func (r *reader) environment(v *doc.Value, c *spec.Container) error {
	if err := r.envFiles(v, c); err != nil {
		return err
	}
	e := v.Get("environment")
	switch {
	case e.IsNull():
		return nil
	case e.Kind == doc.Array:
		for _, item := range e.Items {
			s, err := r.str(item)
			if err != nil {
				return err
			}
			name, value, given := strings.Cut(s, "=")
			if !given {
				if value, err = r.inherited(item, name); err != nil {
					return err
				}
			}
			set(c, name, value)
		}
		return nil
	case e.Kind != doc.Object:
		return e.Errorf("environment is %s, expected a list or an object", e.Kind)
	}
	for _, m := range e.Members {
		var value string
		var err error
		if m.Value.IsNull() {
			value, err = r.inherited(m.Value, m.Key)
		} else {
			value, err = r.str(m.Value)
		}
		if err != nil {
			return err
		}
		set(c, m.Key, value)
	}
	return nil
}

// inherited takes a variable over from the surroundings.
func (r *reader) inherited(v *doc.Value, name string) (string, error) {
	if r.options.Variable != nil {
		if value, ok := r.options.Variable(name); ok {
			return value, nil
		}
	}
	return "", v.Errorf("variable %s has no value, and is not set", name)
}

func (r *reader) envFiles(v *doc.Value, c *spec.Container) error {
	e := v.Get("env_file")
	if e.IsNull() {
		return nil
	}
	list := []*doc.Value{e}
	if e.Kind == doc.Array {
		list = e.Items
	}
	for _, item := range list {
		required := true
		at := item
		if item.Kind == doc.Object {
			if err := checkKeys(item, "path", "required"); err != nil {
				return err
			}
			at = item.Get("path")
			if w := item.Get("required"); w != nil && w.Kind == doc.Bool {
				required = w.True
			}
		}
		if at == nil {
			return item.Errorf("a file of variables has no path")
		}
		name, err := r.str(at)
		if err != nil {
			return err
		}
		data, err := r.file(name)
		switch {
		case errors.Is(err, fs.ErrNotExist) && !required:
			continue
		case err != nil:
			return at.Errorf("file of variables %q: %w", name, err)
		}
		if err := readEnvFile(string(data), c); err != nil {
			return at.Errorf("file of variables %q: %w", name, err)
		}
	}
	return nil
}

// file reads what the description names.
func (r *reader) file(name string) ([]byte, error) {
	if r.options.File == nil {
		return nil, fs.ErrNotExist
	}
	return r.options.File(name)
}

// readEnvFile reads NAME=VALUE lines. Values may stand in quotation marks; variables in them are not supported.
func readEnvFile(data string, c *spec.Container) error {
	for i, line := range strings.Split(strings.ReplaceAll(data, "\r\n", "\n"), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" {
			return fmt.Errorf("line %d is not NAME=VALUE", i+1)
		}
		value, err := envFileValue(strings.TrimSpace(value))
		if err != nil {
			return fmt.Errorf("line %d: %w", i+1, err) // the value may be a secret: not in the message
		}
		set(c, name, value)
	}
	return nil
}

func envFileValue(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	quote := s[0]
	if quote != '\'' && quote != '"' {
		if i := strings.Index(s, " #"); i >= 0 {
			s = strings.TrimSpace(s[:i])
		}
		return s, noVariables(s)
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == quote:
			rest := strings.TrimSpace(s[i+1:])
			if rest != "" && !strings.HasPrefix(rest, "#") {
				return "", fmt.Errorf("something follows the closing quotation mark")
			}
			if quote == '"' {
				return b.String(), noVariables(s)
			}
			return b.String(), nil
		case s[i] == '\\' && quote == '"' && i+1 < len(s):
			i++
			escaped, ok := map[byte]byte{'n': '\n', 't': '\t', 'r': '\r', '"': '"', '\\': '\\'}[s[i]]
			if !ok {
				return "", fmt.Errorf("\\%c is not supported", s[i])
			}
			b.WriteByte(escaped)
		default:
			b.WriteByte(s[i])
		}
	}
	return "", fmt.Errorf("a quotation mark is not closed")
}

func noVariables(s string) error {
	if strings.Contains(s, "$") {
		return fmt.Errorf("a dollar sign needs single quotation marks: variables are not put in here")
	}
	return nil
}
