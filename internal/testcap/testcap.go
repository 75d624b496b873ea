// SPDX-License-Identifier: Apache-2.0

// Package testcap decides whether a test can run on this machine.
//
// Tests that need a capability (root, QEMU, built images, published vectors) skip only through it, so that each skip
// says why. When COFFERDAM_TEST_REQUIRE is "all", or lists the capability, a missing one fails the test instead: CI
// sets it, so that nothing is silently skipped there. Beside that it has what tests of many packages need of a machine: a
// port that stays free, the end of all goroutines and of mounts, a process with a network of its own, and the list of what a
// program imports. The package is for tests alone.
package testcap

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Capability is something a test may need and a machine may lack.
type Capability string

// The capabilities. Each has a probe below.
const (
	Root        Capability = "root"        // the test runs as user 0 and may mount
	QEMU        Capability = "qemu"        // qemu-system-x86_64 is installed
	GuestImage  Capability = "guest-image" // `make guest` has been run
	Images      Capability = "images"      // `make images` has been run
	Veritysetup Capability = "veritysetup"
	Cryptsetup  Capability = "cryptsetup"
	E2fsprogs   Capability = "mke2fs"     // and debugfs, e2fsck
	Erofs       Capability = "fsck.erofs" // and dump.erofs
	MountErofs  Capability = "erofs"      // the kernel has the filesystem
	Umoci       Capability = "umoci"
	FUSE        Capability = "fuse"
	Loop        Capability = "loop" // loop devices
	OpenSSL     Capability = "openssl"
	Etcd        Capability = "etcd"
	SoftHSM     Capability = "softhsm2-util"
	Azurite     Capability = "azurite" // `make setup-test` has installed it, and there is node
	VectorData  Capability = "vectors" // the published vectors lie beside the checkout
)

// Require skips t unless the machine has every capability.
func Require(t testing.TB, caps ...Capability) {
	t.Helper()
	for _, c := range caps {
		err := probe(c)
		if err != nil {
			missing(t, c, err)
		}
	}
}

// Vectors returns the path of a file or directory of the published vectors, or skips t where they are absent. The
// directory is COFFERDAM_VECTORS, or shared/vectors beside the checkout.
func Vectors(t testing.TB, name string) string {
	t.Helper()
	Require(t, VectorData)
	return filepath.Join(vectorDir(), filepath.FromSlash(name))
}

// Dir returns the project's cache directory for built artefacts: COFFERDAM_CACHE, or .cache in the checkout. The
// guest image lies in its "home", the test images in "images".
func Dir() string {
	if d := os.Getenv("COFFERDAM_CACHE"); d != "" {
		return d
	}
	return filepath.Join(root(), ".cache")
}

// AzuriteProgram returns the path of the storage emulator's program for blobs, which node runs.
func AzuriteProgram() string {
	return filepath.Join(Dir(), "tools", "azurite", "node_modules", "azurite", "dist", "src", "blob", "main.js")
}

// Bin returns the path of a binary that `make build` puts into bin/ of the checkout.
func Bin(name string) string { return filepath.Join(root(), "bin", name) }

func missing(t testing.TB, c Capability, err error) {
	t.Helper()
	required := os.Getenv("COFFERDAM_TEST_REQUIRE")
	if required == "all" || slices.Contains(strings.Split(required, ","), string(c)) {
		t.Fatalf("capability %q is required here and missing: %v", c, err)
	}
	t.Skipf("needs capability %q: %v", c, err)
}

func probe(c Capability) error {
	switch c {
	case Root:
		if os.Geteuid() != 0 {
			return fmt.Errorf("user ID is %d, not 0", os.Geteuid())
		}
		return nil
	case QEMU:
		return onPath("qemu-system-x86_64")
	case Veritysetup, Cryptsetup, E2fsprogs, Erofs, Umoci, OpenSSL, Etcd, SoftHSM:
		return onPath(string(c))
	case Azurite:
		if err := onPath("node"); err != nil {
			return err
		}
		return exists(AzuriteProgram())
	case MountErofs:
		known, err := os.ReadFile("/proc/filesystems")
		if err == nil && !strings.Contains(string(known), "\terofs\n") {
			err = fmt.Errorf("the kernel has no EROFS")
		}
		return err
	case FUSE:
		return exists("/dev/fuse")
	case Loop:
		return exists("/dev/loop-control")
	case GuestImage:
		return exists(filepath.Join(Dir(), "home", "guest", "current"))
	case Images:
		return exists(filepath.Join(Dir(), "images", "busybox.tar"))
	case VectorData:
		return exists(vectorDir())
	}
	return fmt.Errorf("capability is unknown")
}

func onPath(name string) error {
	_, err := exec.LookPath(name)
	return err
}

func exists(path string) error {
	_, err := os.Stat(path)
	return err
}

func vectorDir() string {
	if d := os.Getenv("COFFERDAM_VECTORS"); d != "" {
		return d
	}
	return filepath.Join(root(), "..", "shared", "vectors")
}

// root is the directory that holds go.mod, found upwards from the test's working directory.
func root() string {
	dir, err := os.Getwd()
	if err != nil {
		return "."
	}
	for d := dir; ; d = filepath.Dir(d) {
		if exists(filepath.Join(d, "go.mod")) == nil {
			return d
		}
		if d == filepath.Dir(d) {
			return dir
		}
	}
}
