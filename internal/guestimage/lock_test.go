// SPDX-License-Identifier: Apache-2.0

package guestimage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cofferdam.dev/internal/guestimage/debian"
)

func TestKernelLock(t *testing.T) {
	t.Parallel()
	l, err := parseLock(kernelLock)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(l.Package, l.FallbackPrefix) || !strings.HasSuffix(l.Package, l.FallbackSuffix) {
		t.Errorf("package %s is not of the fallback's series %s…%s", l.Package, l.FallbackPrefix, l.FallbackSuffix)
	}
	for name, text := range map[string]string{
		"empty": "", "no hash": `{"package":"a","version":"1","suites":["x"]}`, "unknown field": `{"pkg":"a"}`,
	} {
		if _, err := parseLock([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// cached puts a file into the cache under a package's name and returns the package.
func cached(t *testing.T, dir, name, version, content string) debian.Package {
	t.Helper()
	path := filepath.Join(dir, name+"_"+version+"_amd64.deb")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(content))
	return debian.Package{Name: name, Version: version, SHA256: hex.EncodeToString(sum[:])}
}

// TestFallbackIsKeptAndLoud is about a machine whose mirror lost the pinned kernel: later builds take the same other
// one, say so each time, and return to the pinned one when it is there.
func TestFallbackIsKeptAndLoud(t *testing.T) {
	t.Parallel()
	b := testBuilder(t)
	b.cache = t.TempDir()
	var warnings []string
	b.Warn = func(message string) { warnings = append(warnings, message) }
	other := cached(t, b.cache, "linux-image-2", "2", "other kernel")
	sum := sha256.Sum256([]byte("pinned kernel"))
	l := lock{Package: "linux-image-1", Version: "1", SHA256: hex.EncodeToString(sum[:]), Suites: []string{"none"}}
	text, err := json.Marshal(other)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.cache, "fallback-"+l.SHA256[:16]+".json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := b.kernelPackage(context.Background(), l)
	if err != nil {
		t.Fatal(err)
	}
	if got.Pinned || got.Name != other.Name || got.SHA256 != other.SHA256 {
		t.Errorf("got %+v, want %+v, not pinned", got, other)
	}
	loud := func(w string) bool {
		return strings.Contains(w, "linux-image-1") && strings.Contains(w, "linux-image-2")
	}
	if len(warnings) != 1 || !slices.ContainsFunc(warnings, loud) {
		t.Errorf("warnings are %q", warnings)
	}
	cached(t, b.cache, l.Package, l.Version, "pinned kernel")
	got, err = b.kernelPackage(context.Background(), l)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Pinned || got.Name != l.Package || len(warnings) != 1 {
		t.Errorf("got %+v with warnings %q, want the pinned one and no more warnings", got, warnings)
	}
}
