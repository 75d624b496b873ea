// SPDX-License-Identifier: Apache-2.0

package assemble

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// firstRealTime is the Linux number of SIGRTMIN as images mean it.
const firstRealTime = 34

// parseSignal reads a signal as images name it: SIGTERM, TERM, 15, SIGRTMIN+3. Empty is 0, which leaves the choice.
func parseSignal(s string) (uint32, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 7)
	if err == nil && n >= 1 && n <= 64 {
		return uint32(n), nil
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(s), "SIG")
	rest, ok := strings.CutPrefix(name, "SIGRTMIN")
	if ok {
		n, err := strconv.ParseUint(strings.TrimPrefix(rest, "+"), 10, 5)
		if rest == "" {
			n, err = 0, nil
		}
		if err == nil && firstRealTime+n <= 64 {
			return uint32(firstRealTime + n), nil
		}
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return uint32(sig), nil
	}
	return 0, fmt.Errorf("%q is not a signal", s)
}
