// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"os"
	"path/filepath"
	"testing"
)

// TestProcessLimit takes the smaller of both limits: a large machine has more threads than numbers for them.
func TestProcessLimit(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		threads, numbers string
		want             int64 // 0: an error
	}{
		"small machine": {"4000\n", "32768\n", 4000},
		"large machine": {"500000\n", "32768\n", 32768},
		"no number":     {"many\n", "32768\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for file, text := range map[string]string{"threads-max": tt.threads, "pid_max": tt.numbers} {
				err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600)
				if err != nil {
					t.Fatal(err)
				}
			}
			got, err := processLimit(dir)
			if got != tt.want || (err != nil) != (tt.want == 0) {
				t.Errorf("limit is %d, %v; want %d", got, err, tt.want)
			}
		})
	}
}
