// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// child plays the part of a program in the guest and returns its exit code.
func child(part string) int {
	part, arg, _ := strings.Cut(part, ":")
	switch part {
	case "exit":
		var code int
		_, _ = fmt.Sscan(arg, &code)
		return code
	case "sleep":
		time.Sleep(time.Hour)
	case "orphan": // leaves a child behind that plays the part in arg, and prints its number
		cmd := exec.Command(program)
		cmd.Env = []string{childEnv + "=" + arg}
		if err := cmd.Start(); err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println(cmd.Process.Pid)
		return 0
	case "late":
		time.Sleep(300 * time.Millisecond)
		return 9
	case "eat": // joins the control group arg and uses memory without end
		if err := os.WriteFile(arg+"/cgroup.procs", []byte("0"), 0); err != nil {
			fmt.Println(err)
			return 1
		}
		_ = os.WriteFile("/proc/self/oom_score_adj", []byte("0"), 0)
		var kept [][]byte
		for range 1 << 10 {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = 1
			}
			kept = append(kept, b)
		}
		return len(kept) & 1
	case "inside": // reports from within a container
		names, err := os.ReadDir("/")
		if err != nil {
			fmt.Println(err)
			return 1
		}
		for _, n := range names {
			fmt.Print(n.Name(), " ")
		}
		fmt.Println()
		return 7
	}
	return 99
}
