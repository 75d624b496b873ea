// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// childRoots asks TestRoots to speak.
const childRoots = "LAYER_TEST_ROOTS"

// TestRoots is not a test of its own: TestEnvironment runs it in other processes. It says the root of each layer of the
// corpus, converted together.
func TestRoots(t *testing.T) {
	base := os.Getenv(childRoots)
	if base == "" {
		t.Skip("runs in processes that TestEnvironment starts")
	}
	syscall.Umask(0o077 * len(os.Getenv("LAYER_TEST_UMASK")))
	c, err := OpenCache(base)
	if err != nil {
		t.Fatal(err)
	}
	layers := corpus()
	layers["no parents"] = []entry{reg("a/b/c/d", "x"), reg("e/f", "y")} // the converter makes up their directories
	names := slices.Sorted(maps.Keys(layers))
	var sources []Source
	for _, n := range names {
		sources = append(sources, layerOf(makeTar(t, layers[n]...)))
	}
	entries, err := c.GetAll(t.Context(), sources, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range entries {
		fmt.Printf("root %x %s\n", e.RootHash, names[i])
	}
}

// TestEnvironment converts the same layers in processes that differ in everything but the layers: locale, time zone,
// temporary directory, processors, umask, working directory, the cache's place, and the time that has passed. The
// disks' roots are the same.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	var want []string
	for _, env := range [][]string{
		{"LC_ALL=C", "TZ=UTC", "GOMAXPROCS=2"},
		{"LC_ALL=tr_TR.UTF-8", "LANG=tr_TR.UTF-8", "TZ=Asia/Kathmandu", "GOMAXPROCS=1"},
		{"LC_ALL=", "TZ=America/St_Johns", "GOMAXPROCS=7", "TMPDIR=" + t.TempDir(), "HOME=/nonexistent", "LAYER_TEST_UMASK=1"},
		{"TMPDIR=/nonexistent", "GOGC=1", "SOURCE_DATE_EPOCH=1000000000"},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRoots$")
		cmd.Env = append(slices.Concat(os.Environ(), env), childRoots+"="+t.TempDir())
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", env, err, out)
		}
		var roots []string
		for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
			if strings.HasPrefix(s.Text(), "root ") {
				roots = append(roots, s.Text())
			}
		}
		if want == nil {
			want = roots
		}
		if diff := cmp.Diff(want, roots); diff != "" || len(roots) < 10 {
			t.Errorf("%v (-first +here):\n%s", env, diff)
		}
	}
}
