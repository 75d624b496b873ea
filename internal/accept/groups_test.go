// SPDX-License-Identifier: Apache-2.0

package accept

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestFourGroups starts four groups at the same time, has each answer on its port, and stops them together. Two processors
// are enough for that.
func TestFourGroups(t *testing.T) {
	needVM(t)
	h, dir := home(t), t.TempDir()
	const n = 4
	var ports [n]int
	var all sync.WaitGroup
	results := make([]result, n)
	for i := range n {
		name := fmt.Sprintf("four-%d", i)
		ports[i] = freePort(t)
		file := filepath.Join(dir, name+".yaml")
		text := fmt.Sprintf("name: %s\nservices:\n  db:\n    image: %s\n    ports: ['%d:6379']\n", name, ref("redis"), ports[i])
		err := os.WriteFile(file, []byte(text), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		ended(t, h, name)
		all.Go(func() { results[i] = cofferdam(t, h, "", "group", "up", "--memory", "512m", file) })
	}
	all.Wait()
	for i, r := range results {
		if r.code != 0 {
			t.Fatalf("group %d: exit code %d\n%s", i, r.code, r.stderr)
		}
	}
	for i, port := range ports {
		eventually(t, "the group answers", func() error {
			got, err := redis(port, fmt.Sprintf("SET mine %d", i))
			if err == nil && got != "+OK" {
				err = fmt.Errorf("got %q", got)
			}
			return err
		})
	}
	if ps := must(t, h, "group", "ps").stdout; strings.Count(ps, " running ") != n {
		t.Errorf("group ps:\n%s", ps)
	}
	for i, port := range ports {
		if got, err := redis(port, "GETRANGE mine 0 0"); err != nil || !strings.HasPrefix(got, "$1") {
			t.Errorf("group %d: %q, %v", i, got, err)
		}
	}
	must(t, h, "group", "down", "four-0", "four-1", "four-2", "four-3")
	nothingLeft(t, h)
}
