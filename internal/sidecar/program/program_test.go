// SPDX-License-Identifier: Apache-2.0

package program

import (
	"bytes"
	"encoding/base64"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cofferdam.dev/internal/serve"
)

// env is an environment.
type env map[string]string

func (e env) lookup(name string) (string, bool) {
	v, ok := e[name]
	return v, ok
}

// parse reads flags as the program does.
func parse(t *testing.T, args ...string) (*SKR, []string) {
	t.Helper()
	o := &SKR{}
	f := flag.NewFlagSet("skr", flag.ContinueOnError)
	o.Flags(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return o, f.Args()
}

// TestComplete lays flags over the environment over arguments, as the original's script does.
func TestComplete(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args         []string
		env          env
		config, port string
		fails        string
	}{
		"nothing":                  {nil, nil, "", "8080", ""},
		"gRPC alone":               {[]string{"--server-type", "grpc"}, nil, "", "50000", ""},
		"gRPC by the environment":  {nil, env{"ServerType": "grpc"}, "", "50000", ""},
		"arguments":                {[]string{"e30=", "1"}, nil, "e30=", "1", ""},
		"the environment wins":     {[]string{"e30=", "1"}, env{"SkrSideCarArgs": "{}", "Port": "2"}, "{}", "2", ""},
		"flags win":                {[]string{"--base64", "{ }", "--port", "0", "e30=", "1"}, env{"SkrSideCarArgs": "{}", "Port": "2"}, "{ }", "0", ""},
		"an empty variable":        {[]string{"e30="}, env{"SkrSideCarArgs": ""}, "e30=", "8080", ""},
		"three arguments":          {[]string{"a", "1", "b"}, nil, "", "", "at most a configuration and a port"},
		"no port":                  {nil, env{"Port": "http"}, "", "", `the port is "http"`},
		"a port that is none":      {[]string{"--grpc-port", "65536"}, nil, "", "", `the port is "65536"`},
		"another server":           {nil, env{"ServerType": "soap"}, "", "", `--server-type is "soap"`},
		"another level":            {nil, env{"LogLevel": "loud"}, "", "", `--loglevel is "loud"`},
		"another source":           {[]string{"--provider", "sgx"}, nil, "", "", `--provider is "sgx"`},
		"another identity":         {[]string{"--identity", "mine"}, nil, "", "", `--identity is "mine"`},
		"wrapping without a place": {[]string{"--infile", "x", "--keypath", "y"}, nil, "", "", "go together"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, args := parse(t, c.args...)
			err := o.Complete(args, c.env.lookup)
			if c.fails != "" {
				if _, ok := errors.AsType[*UsageError](err); !ok || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("error is %v, want a usage error with %q", err, c.fails)
				}
				return
			}
			if err != nil || o.config != c.config || o.port != c.port {
				t.Errorf("configuration %q, port %q, %v; want %q, %q", o.config, o.port, err, c.config, c.port)
			}
		})
	}
}

// TestRoots takes authorities from a file, else from the environment, else from the system, and never skips what it can not read.
func TestRoots(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if _, err := serve.DevelopmentTLS(file, []string{"a.test"}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	encoded := base64.StdEncoding.EncodeToString(text)
	for name, c := range map[string]struct {
		file, env string
		system    bool
		fails     string
	}{
		"the system's":       {"", "", true, ""},
		"blanks":             {"", " \n", true, ""},
		"a file":             {file, "", false, ""},
		"PEM":                {"", string(text), false, ""},
		"base64":             {"", encoded, false, ""},
		"base64 in lines":    {"", encoded[:40] + "\n" + encoded[40:], false, ""},
		"the file wins":      {file, "?", false, ""},
		"no file":            {file + "x", encoded, false, "no such file"},
		"neither":            {"", "authority", false, "neither PEM nor that in base64"},
		"base64 of a text":   {"", base64.StdEncoding.EncodeToString([]byte("text")), false, "no certificate in PEM"},
		"PEM without any":    {"", "-----BEGIN NOTHING-----", false, "no certificate in PEM"},
		"a file without any": {os.Args[0], "", false, "has more than"},
	} {
		o := &SKR{authorities: c.file}
		pool, err := o.roots(env{EnvAuthorities: c.env}.lookup)
		switch {
		case c.fails != "":
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: error is %v, want %q", name, err, c.fails)
			}
		case err != nil || (pool == nil) != c.system:
			t.Errorf("%s: %v, %v", name, pool, err)
		}
	}
}

// TestResult leaves what the original's script leaves.
func TestResult(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "result")
	o, args := parse(t, "--result-file", file, "--provider", "socket", "--socket", "nowhere")
	if err := o.Complete(args, env{}.lookup); err != nil {
		t.Fatal(err)
	}
	var out, log bytes.Buffer
	if err := o.Run(t.Context(), Process{Out: &out, Err: &log, LookupEnv: env{}.lookup}); err == nil || !strings.Contains(err.Error(), "evidence socket") {
		t.Errorf("without a source of reports: %v", err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "0\n" {
		t.Errorf("the result is %q, %v", b, err)
	}
	if out.Len() > 0 {
		t.Errorf("it said that it listens: %s", out.String())
	}
	if err := o.leaveResult(true); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "1\n" {
		t.Errorf("the result is %q, %v", b, err)
	}
}
