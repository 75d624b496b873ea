// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/evidence"
	"cofferdam.dev/verify/anchor"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestRenderGolden(t *testing.T) {
	t.Parallel()
	doc := byName("s1").document(t)
	accepted := Appraise(context.Background(), doc, pinned(t, doc))
	bare := *doc
	bare.Certificates = nil
	provisional := byName("s3").document(t)
	simulated := *accepted
	simulated.Simulated, simulated.Domain = true, anchor.Simulated
	for _, c := range []struct {
		name  string
		v     *Verdict
		color bool
	}{
		{"accepted", accepted, false},
		{"accepted-color", accepted, true},
		{"simulated", &simulated, false},
		{"refused", Appraise(context.Background(), provisional, Options{Roots: anchor.AMDRoots(), Now: vectorTime}), false},
		{"undecided", Appraise(context.Background(), &bare, pinned(t, doc)), false},
		{"no-evidence", Appraise(context.Background(), nil, Options{}), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			if err := Render(&b, c.v, c.color); err != nil {
				t.Fatal(err)
			}
			golden(t, c.name+".txt", b.Bytes())
		})
	}
}

// TestVerdictJSON pins the JSON form, which programs rely on.
func TestVerdictJSON(t *testing.T) {
	t.Parallel()
	doc := byName("s2").document(t)
	b, err := json.MarshalIndent(Appraise(context.Background(), doc, pinned(t, doc)), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "debug.json", append(b, '\n'))
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// TestRenderKeepsTerminalsSafe feeds control characters through every text that evidence can bring.
func TestRenderKeepsTerminalsSafe(t *testing.T) {
	t.Parallel()
	evil := "\x1b[2J\r\x07\u202e"
	v := Appraise(context.Background(), &evidence.Document{Type: evil, Report: []byte{1}}, Options{})
	v.Chain = []anchor.Link{{Role: "root", Name: evil, Label: evil, Subject: evil}}
	v.Report = &ReportClaims{Product: evil, ChipID: evil, Measurement: evil, BindingClaims: BindingClaims{Source: evil}}
	var b bytes.Buffer
	if err := Render(&b, v, false); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\r\x07\u202e") {
		t.Errorf("output has control characters: %q", b.String())
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestRenderReportsWriteErrors(t *testing.T) {
	t.Parallel()
	if err := Render(brokenWriter{}, &Verdict{}, true); err == nil {
		t.Error("no error")
	}
}
