// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"cofferdam.dev/internal/deploy"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/event"
)

// TestGroupDocuments makes sure that the reference names every field of the documents about groups.
func TestGroupDocuments(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/reference/group-documents.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, v := range []any{
		group.Record{}, group.Stage{}, group.Port{}, group.Container{}, group.Run{}, group.Stats{}, group.ContainerStats{}, group.Mount{},
		event.Event{}, deploy.Change{}, deploy.Finding{}, deploy.Replacement{},
		groupList{}, groupPlan{}, plannedContainer{}, eventList{}, debugAnswer{}, debugStep{}, statsAnswer{}, groupLoaded{}, loadedFacts{},
	} {
		for f := range reflect.TypeOf(v).Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" {
				continue // embedded: its fields are looked at by themselves
			}
			seen++
			if !strings.Contains(string(page), "`"+name+"`") {
				t.Errorf("docs/reference/group-documents.md does not name %s of %T", name, v)
			}
		}
	}
	if seen < 80 {
		t.Errorf("looked at %d fields", seen)
	}
}
