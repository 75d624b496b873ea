// SPDX-License-Identifier: Apache-2.0

package accept

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/testcap"
)

// patience bounds one command. An emulated guest on a loaded machine can take many times its usual three seconds.
const patience = 6 * time.Minute

func needVM(t testing.TB) {
	t.Helper()
	testcap.Require(t, testcap.QEMU, testcap.GuestImage, testcap.Images)
	if _, err := os.Stat(testcap.Bin("cofferdam")); err != nil {
		t.Fatalf("the guest image is built and the command is not: %v", err)
	}
}

// home returns a state directory with its own groups, and the layers and guest image that the checkout has already.
func home(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, shared := range []string{"guest", "layers", "simsp"} {
		src := filepath.Join(testcap.Dir(), "home", shared)
		if err := os.MkdirAll(src, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(src, filepath.Join(dir, shared)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func ref(name string) string {
	return "oci-archive:" + filepath.Join(testcap.Dir(), "images", name+".tar")
}

type result struct {
	stdout, stderr string
	code           int
}

// cofferdam runs the command to its end.
func cofferdam(t testing.TB, home, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, testcap.Bin("cofferdam"), args...)
	cmd.Env = append(os.Environ(), "COFFERDAM_HOME="+home, "NO_COLOR=1")
	cmd.Stdin = strings.NewReader(stdin)
	var out, errb bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errb
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("cofferdam %s: %v", strings.Join(args, " "), err)
	}
	if ctx.Err() != nil {
		t.Fatalf("cofferdam %s took longer than %s; stderr:\n%s", strings.Join(args, " "), patience, errb.String())
	}
	return result{stdout: out.String(), stderr: errb.String(), code: cmd.ProcessState.ExitCode()}
}

// must runs the command and fails the test unless it exits with 0.
func must(t testing.TB, home string, args ...string) result {
	t.Helper()
	r := cofferdam(t, home, "", args...)
	if r.code != 0 {
		t.Fatalf("cofferdam %s: exit code %d\nstdout:\n%s\nstderr:\n%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r
}

// detach starts a detached group and removes it at the end of the test, whatever happened.
func detach(t testing.TB, home, name string, args ...string) {
	t.Helper()
	removed(t, home, name)
	must(t, home, append([]string{"run", "-d", "--name", name}, args...)...)
}

// removed removes a group at the end of the test, running or not.
func removed(t testing.TB, home, name string) {
	t.Helper()
	t.Cleanup(func() {
		cmd := exec.Command(testcap.Bin("cofferdam"), "group", "rm", "--force", name)
		cmd.Env = append(os.Environ(), "COFFERDAM_HOME="+home)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("removing group %s: %v\n%s", name, err, out)
		}
	})
}

// freePort returns a TCP port of the loopback address that nobody used a moment ago.
func freePort(t testing.TB) int {
	t.Helper()
	port, err := testcap.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// eventually calls try until it succeeds or patience is used up.
func eventually(t testing.TB, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func publish(host, guest int) string { return fmt.Sprintf("127.0.0.1:%d:%d", host, guest) }
