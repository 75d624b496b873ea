// SPDX-License-Identifier: Apache-2.0

package testcap

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// childEnv marks the process that Child has started.
const childEnv = "COFFERDAM_TEST_CHILD"

// Main is the TestMain of a package that has a child: it runs the tests or, in the process that Child has started, the child
// alone. It does not return.
func Main(m *testing.M, child func() error) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	err := child()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Child runs the package's child in a process with these attributes, such as a network of its own, and fails the test with
// what the child says if it fails.
func Child(t testing.TB, attributes *syscall.SysProcAttr) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childEnv+"=1")
	c.SysProcAttr = attributes
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
