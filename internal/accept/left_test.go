// SPDX-License-Identifier: Apache-2.0

package accept

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/event"
	"cofferdam.dev/internal/testcap"
)

// ended stops a group without patience at the end of the test, and removes it.
func ended(t testing.TB, home, name string) {
	t.Helper()
	t.Cleanup(func() {
		for _, args := range [][]string{{"group", "stop", "--timeout", "1s", name}, {"group", "rm", "--force", name}} {
			cmd := exec.Command(testcap.Bin("cofferdam"), args...)
			cmd.Env = append(os.Environ(), "COFFERDAM_HOME="+home)
			out, err := cmd.CombinedOutput()
			if err != nil && args[1] == "rm" && !bytes.Contains(out, []byte("no such group")) {
				t.Errorf("removing group %s: %v\n%s", name, err, out)
			}
		}
	})
}

// nothingRuns fails the test unless all that a group's machine needed of this one is gone: processes, mounts, sockets, and
// files but for what tells of the group.
func nothingRuns(t testing.TB, home string) {
	t.Helper()
	eventually(t, "the processes of the groups end", func() error { return errors.Join(processesOf(home)...) })
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, home+"/") {
			t.Errorf("a mount is left: %s", line)
		}
	}
	kept := []string{"record.json", "plan.json", "events.jsonl", "lock", "logs", "console.log", "supervisor.log"}
	dirs, err := os.ReadDir(filepath.Join(home, "groups"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if !d.IsDir() {
			continue
		}
		files, err := os.ReadDir(filepath.Join(home, "groups", d.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if !slices.Contains(kept, f.Name()) {
				t.Errorf("group %s: the file %s is left", d.Name(), f.Name())
			}
		}
	}
}

// nothingLeft is nothingRuns after all groups were removed.
func nothingLeft(t testing.TB, home string) {
	t.Helper()
	nothingRuns(t, home)
	dirs, err := os.ReadDir(filepath.Join(home, "groups"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if d.IsDir() {
			t.Errorf("the group %s is left", d.Name())
		}
	}
}

// processesOf are the processes that work for groups of a state directory. QEMU and the supervisors have it in their
// environment or command line.
func processesOf(home string) []error {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return []error{err}
	}
	var list []error
	for _, d := range dirs {
		env, err := os.ReadFile(filepath.Join(d, "environ"))
		line, other := os.ReadFile(filepath.Join(d, "cmdline"))
		if err != nil || other != nil || len(line) == 0 { // it has ended
			continue
		}
		if bytes.Contains(env, []byte("COFFERDAM_HOME="+home+"\x00")) || bytes.Contains(line, []byte(home)) {
			list = append(list, fmt.Errorf("process %s is left: %s", filepath.Base(d), bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return list
}

// happened returns the events of a group.
func happened(t testing.TB, home, name string) []event.Event {
	t.Helper()
	var v struct {
		Events []event.Event `json:"events"`
	}
	out := must(t, home, "group", "events", name, "-o", "json").stdout
	err := json.Unmarshal([]byte(out), &v)
	if err != nil {
		t.Fatalf("reading the events of %s: %v\n%s", name, err, out)
	}
	return v.Events
}

// expectEvent waits until a container (or the group, if that is empty) has an event of a name whose message holds text.
func expectEvent(t testing.TB, home, name, container, what, text string) {
	t.Helper()
	eventually(t, "an event is told", func() error {
		list := happened(t, home, name)
		for _, e := range list {
			if e.Container == container && e.Name == what && strings.Contains(e.Message, text) {
				return nil
			}
		}
		return fmt.Errorf("no event %s of %q with %q in %v", what, container, text, list)
	})
}

// container returns the entry of a group's record.
func containerOf(t testing.TB, home, name, container string) group.Container {
	t.Helper()
	c, err := record(t, home, name).Container(container)
	if err != nil {
		t.Fatal(err)
	}
	return *c
}
