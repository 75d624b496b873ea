// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"cofferdam.dev/internal/volume/descriptor"
)

// Where the kernel has its drivers they decrypt the volume, and where it has not our code does, and says why: what is written
// in the one way is read in the other.
func TestKernel(t *testing.T) {
	t.Parallel()
	needs(t)
	i := newImage(t, descriptor.LUKS2, 32<<20)
	i.program(t, true, "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096")
	dir := t.TempDir()
	content := bytes.Repeat([]byte("the canary sings in the mine"), 10000)
	for _, plan := range []bool{true, false, true} {
		v := i.open(t, true)
		o := Options{Write: true}
		var without error
		if k := v.Kernel(); plan {
			defer k.Destroy()
			o.Plan, o.Below, o.Without = k.Plan, k.Below, func(err error) { without = err }
		}
		m, err := Mount(t.Context(), v, dir, o)
		if err != nil {
			t.Fatal(err)
		}
		if m.Kernel != (plan && without == nil) || m.Damaged() {
			t.Errorf("by the kernel: %t, damaged: %t, but %v", m.Kernel, m.Damaged(), without)
		}
		name := filepath.Join(dir, "file")
		if got, err := os.ReadFile(name); !errors.Is(err, os.ErrNotExist) && !bytes.Equal(got, content) {
			t.Errorf("%d bytes (%v)", len(got), err)
		}
		err = os.WriteFile(name, content, 0o600)
		if err := errors.Join(err, m.Close(t.Context()), v.Close(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	if raw, err := os.ReadFile(i.path); err != nil || bytes.Contains(raw, content[:28]) {
		t.Errorf("the image shows what is in it (%v)", err)
	}
}
