// SPDX-License-Identifier: Apache-2.0

package treetest

import (
	"context"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/testcap"
)

// argument returns what follows a flag in a command.
func argument(words []string, flag string) string {
	for i, w := range words[:len(words)-1] {
		if w == flag {
			return words[i+1]
		}
	}
	return ""
}

// TestDocsVerify follows values through each page that gets evidence and verifies it: what `verify` is told must be what
// the page's other commands made, or else the command as written is refused. Without --policy it always is. The examples
// of the command line's reference stand alone.
func TestDocsVerify(t *testing.T) {
	checked := 0
	for _, s := range sources(t, ".md") {
		nonces, images, policies := map[string]string{}, map[string]string{}, map[string]string{} // by file, group, file
		evidence := map[string]string{}                                                           // group by file
		for _, line := range shellLines(string(s.data)) {
			file := ""
			if m := regexp.MustCompile(`> ?([a-z.-]+)$`).FindStringSubmatch(comment.ReplaceAllString(line, "")); m != nil {
				file = m[1]
			}
			for _, w := range invocations(line) {
				switch name := strings.Join(w[:min(3, len(w))], " "); {
				case strings.HasPrefix(name, "cofferdam policy generate"):
					policies[file] = image(w)
				case len(w) > 1 && w[1] == "run" && argument(w, "--name") != "":
					images[argument(w, "--name")] = image(w)
				case strings.HasPrefix(name, "cofferdam group attest") && len(w) > 3:
					evidence[file] = w[3]
					if _, err := hex.DecodeString(argument(w, "--nonce")); err == nil { // else it is made on the spot
						nonces[file] = argument(w, "--nonce")
					}
				case len(w) > 2 && w[1] == "verify" && (w[2] == "bundle" || argument(w, "--appraisal-policy") != ""): // says what it trusts elsewhere
				case len(w) > 2 && w[1] == "verify":
					checked++
					if argument(w, "--policy") == "" && argument(w, "--policy-hash") == "" {
						t.Errorf("%s: %s: no policy is named, so the verdict is a refusal", s.path, line)
					}
					if want := nonces[w[2]]; want != "" && want != argument(w, "--nonce") && s.path != "docs/reference/cli.md" {
						t.Errorf("%s: %s: the evidence was asked for with the nonce %s", s.path, line, want)
					}
					made, ran := policies[argument(w, "--policy")], images[evidence[w[2]]]
					if made != "" && ran != "" && made != ran {
						t.Errorf("%s: %s: the policy is of %s, the group of %s", s.path, line, made, ran)
					}
				}
			}
		}
	}
	if checked < 4 {
		t.Errorf("found %d commands that verify: the documentation is not read right", checked)
	}
}

// image is the word that names an image.
func image(words []string) string {
	for _, w := range words {
		if strings.HasPrefix(w, "oci") && strings.Contains(w, ":") {
			return w
		}
	}
	return ""
}

// TestTourAsWritten runs the five minutes of the first page, all but the build and the fixed port, and expects what the
// page says of them.
func TestTourAsWritten(t *testing.T) {
	if testing.Short() {
		t.Skip("boots two machines")
	}
	testcap.Require(t, testcap.QEMU, testcap.GuestImage, testcap.Images)
	block := fence.FindStringSubmatch(between(page(t, "README.md"), "\n## Five minutes\n", "\n## "))
	if block == nil {
		t.Fatal("README.md has no block of shell under \"Five minutes\"")
	}
	script := regexp.MustCompile(`(?m)^(make|export) .*$`).ReplaceAllString(block[2], "")
	port := freePort(t)
	script = strings.ReplaceAll(script, "-p 6379:", "-p "+strconv.Itoa(port)+":")
	work := t.TempDir()
	home := filepath.Join(work, ".cache", "home")
	link(t, testcap.Bin("cofferdam"), filepath.Join(work, "bin", "cofferdam"))
	link(t, testcap.Bin("runc"), filepath.Join(work, "bin", "runc"))
	link(t, filepath.Join(testcap.Dir(), "images"), filepath.Join(work, ".cache", "images"))
	for _, name := range []string{"guest", "layers", "simsp"} { // groups are this test's own
		link(t, filepath.Join(testcap.Dir(), "home", name), filepath.Join(home, name))
	}
	environment := append(os.Environ(), "PATH="+filepath.Join(work, "bin")+":"+os.Getenv("PATH"), "COFFERDAM_HOME="+home, "NO_COLOR=1")
	t.Cleanup(func() { // what a failure leaves running
		c := exec.Command(testcap.Bin("cofferdam"), "group", "rm", "--force", "db")
		c.Env = environment
		_ = c.Run() // it is gone if all went well
	})
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	c.Dir, c.Env, c.WaitDelay = work, environment, 10*time.Second
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("the tour as written: %v\n%s\n%s", err, script, out)
	}
	for _, want := range []string{"This machine can run groups", "\nhello\n", "verdict       ACCEPTED  SIMULATED"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the tour does not print %q:\n%s", want, out)
		}
	}
	left, err := filepath.Glob(filepath.Join(work, "[^.]*"))
	if err != nil || len(left) != 1 {
		t.Errorf("the tour leaves %v behind, want bin alone; %v", left, err)
	}
}

// link shares what the checkout has; what it lacks is made anew.
func link(t *testing.T, target, name string) {
	t.Helper()
	if _, err := os.Stat(target); err != nil {
		return
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := testcap.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}
