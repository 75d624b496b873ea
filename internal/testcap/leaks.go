// SPDX-License-Identifier: Apache-2.0

package testcap

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// leakPatience is how long goroutines may take to end after the tests. A machine that is busy needs more than the
// moment that goleak gives them.
const leakPatience = 30 * time.Second

// NoLeaks runs the tests of a package and returns its exit status: a failure, too, if goroutines outlive the tests.
func NoLeaks(m *testing.M) int {
	code := m.Run()
	if code != 0 {
		return code
	}
	err := goleak.Find()
	for end := time.Now().Add(leakPatience); err != nil && time.Now().Before(end); err = goleak.Find() {
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "goroutines outlive the tests:", err)
		return 1
	}
	return 0
}
