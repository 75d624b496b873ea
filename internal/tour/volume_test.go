// SPDX-License-Identifier: Apache-2.0

package tour

import (
	"testing"
	"time"
)

// The steps about data need no machine.
func TestVolumeSteps(t *testing.T) {
	t.Parallel()
	r := &tour{cfg: Config{Home: t.TempDir(), Now: time.Now, Shown: func(*Step) {}}, report: &Report{}}
	defer r.forgetData()
	for _, p := range r.volumes() {
		err := r.step(t.Context(), p.step, p.do)
		if err != nil {
			t.Fatal(r.report.Steps[len(r.report.Steps)-1].Error)
		}
	}
}
