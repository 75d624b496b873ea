// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cofferdam.dev/internal/testcap"
)

const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

// buildHelper compiles the helper program, which needs a C compiler.
func buildHelper(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cofferdam-pkcs11")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, "cofferdam.dev/cmd/cofferdam-pkcs11")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// TestSoftHSM keeps a root under a key of a module in software.
func TestSoftHSM(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles a program in C")
	}
	testcap.Require(t, testcap.SoftHSM)
	dir := t.TempDir()
	config := filepath.Join(dir, "softhsm2.conf")
	tokens := filepath.Join(dir, "tokens")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte("directories.tokendir = "+tokens+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", config)
	for _, label := range []string{"vault", "other"} {
		out, err := exec.CommandContext(t.Context(), "softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "so-pin-1", "--pin", "user-pin-1").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	ctx := t.Context()
	hsm := HSM{Helper: buildHelper(t), Module: softHSM, Token: "vault", Key: "root", PIN: NewSecret([]byte("user-pin-1"))}
	path := filepath.Join(dir, "root.json")
	r, err := CreatePKCS11(ctx, path, &hsm)
	if err != nil {
		t.Fatal(err)
	}
	wrapped := mustWrap(t, r)
	again, err := OpenPKCS11(ctx, path, &hsm)
	if err != nil || !opens(t, again, wrapped) || again.Kind() != KindPKCS11 {
		t.Errorf("opened %v, %v", again, err)
	}
	with := func(change func(*HSM)) *HSM {
		h := hsm
		change(&h)
		return &h
	}
	for name, h := range map[string]*HSM{
		"wrong PIN": with(func(h *HSM) { h.PIN = NewSecret([]byte("wrong-pin")) }), "no PIN": with(func(h *HSM) { h.PIN = nil }),
		"no module": with(func(h *HSM) { h.Module = "/nowhere.so" }), "no helper": with(func(h *HSM) { h.Helper = "/nowhere" }),
		"helper fails": with(func(h *HSM) { h.Helper = "/bin/false" }), "helper is silent": with(func(h *HSM) { h.Helper = "/bin/true" }),
		"helper repeats": with(func(h *HSM) { h.Helper = "/bin/cat" }),
	} {
		m, err := OpenPKCS11(ctx, path, h)
		if err == nil {
			t.Errorf("%s: opened %v", name, m)
		} else if strings.Contains(err.Error(), "user-pin-1") {
			t.Errorf("%s: the error shows the PIN: %v", name, err)
		}
	}
	if _, err := CreatePKCS11(ctx, path+"2", &hsm); err == nil {
		t.Error("a key was made twice")
	}
	if _, err := CreatePKCS11(ctx, path+"3", with(func(h *HSM) { h.Token = "other" })); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ was, is string }{
		"other token": {`"token": "vault"`, `"token": "other"`}, "other key": {`"key": "root"`, `"key": "tool"`}, "no token": {`"token": "vault"`, `"token": "gone"`},
		"sealed": {`"sealed": "`, `"sealed": "AAAA`},
	} {
		bad := strings.Replace(string(b), c.was, c.is, 1)
		if bad == string(b) {
			t.Fatalf("%s: nothing was changed in %s", name, b)
		}
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := OpenPKCS11(ctx, path, &hsm); err == nil {
			t.Errorf("%s: opened %v", name, m)
		}
	}
}
