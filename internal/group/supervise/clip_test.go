// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"cofferdam.dev/internal/group"
)

// TestClipped holds that what a guest says at length leaves a record that can be read.
func TestClipped(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä\x01", 1<<20)
	r := &group.Record{Schema: group.RecordSchema, Name: "g", Reason: clipped(long)}
	for range 32 {
		c := group.Container{Reason: oneLine(errors.New(long + "\nmore")), Message: strings.Repeat("\x01", 4<<10)}
		c.Previous = &group.Run{Reason: clipped(long), Message: c.Message}
		r.Containers = append(r.Containers, c)
	}
	if !utf8.ValidString(r.Reason) || !strings.HasSuffix(r.Reason, "…") {
		t.Errorf("the reason ends with %q", r.Reason[len(r.Reason)-5:])
	}
	data, err := r.Marshal()
	if err == nil {
		_, err = group.ParseRecord(data)
	}
	if err != nil {
		t.Error(err)
	}
	if got := clipped("short\nand\xff"); got != "short\nand\uFFFD" {
		t.Errorf("a short text becomes %q", got)
	}
}
