// SPDX-License-Identifier: Apache-2.0

package accept

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/debimage"
	"cofferdam.dev/internal/testcap"
)

// TestTree compares what a container sees of an image with seven layers, whiteouts, opaque directories, links and odd
// modes, with what an independent tool unpacks of the same image on this machine.
func TestTree(t *testing.T) {
	needVM(t)
	testcap.Require(t, testcap.Root, testcap.Umoci)
	want, err := debimage.ExpectedTree(t.Context(), filepath.Join(testcap.Dir(), "images", "layers7.tar"), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"run", "--rm", ref("layers7"), "--"}, debimage.TreeCommand("/"+debimage.TreeRoot)...)
	got, err := debimage.ParseTree([]byte(must(t, home(t), args...).stdout))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the tree inside differs (-unpacked outside +seen inside):\n%s", diff)
	}
}
