// SPDX-License-Identifier: Apache-2.0

package container

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTerminationLog(t *testing.T) {
	t.Parallel()
	const source = "/tmp/atlas/terminationLog/web"
	tests := map[string]struct{ written, want string }{
		"nothing":  {"", ""},
		"little":   {"bye\n", "bye\n"},
		"as much":  {strings.Repeat("x", maxMessage), strings.Repeat("x", maxMessage)},
		"too much": {"lost" + strings.Repeat("y", maxMessage), strings.Repeat("y", maxMessage)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := &Volumes{Root: filepath.Join(t.TempDir(), "volumes")}
			log, err := v.newLog("a", source)
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Lstat(v.Path(source))
			if err != nil || info.Mode() != terminationMode {
				t.Errorf("the file is %v, %v", info, err)
			}
			err = os.WriteFile(v.Path(source), []byte(tt.written), 0)
			if err != nil {
				t.Fatal(err)
			}
			next, err := v.newLog("b", source) // another container of the same name
			if err != nil {
				t.Fatal(err)
			}
			if got := string(message(log)); got != tt.want {
				t.Errorf("the message is %q", got)
			}
			if got := string(message(next)); got != "" {
				t.Errorf("the next container's message is %q", got)
			}
			for _, id := range []string{"a", "b", "c"} {
				if err := v.forget(id); err != nil {
					t.Error(err)
				}
			}
			_, err = os.Lstat(v.Path(source))
			if !os.IsNotExist(err) || len(v.logs) != 0 {
				t.Errorf("the file is left: %v, %v", err, v.logs)
			}
		})
	}
	if message(nil) != nil {
		t.Error("without a log there is a message")
	}
}
