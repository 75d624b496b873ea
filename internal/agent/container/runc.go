// SPDX-License-Identifier: Apache-2.0

package container

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cofferdam.dev/internal/agent/machine/reaper"
)

// runcTimeout bounds one call of the runtime. It is long because an emulated guest on a loaded machine is slow.
const runcTimeout = 2 * time.Minute

// Bounds of what is read of the runtime's own words.
const (
	maxLog    = 64 << 10
	maxReason = 512
)

// runc runs the OCI runtime to its end. It gets no environment but a search path, and files as its standard streams,
// which it passes on to a process that it starts.
func (r *Runner) runc(ctx context.Context, dir string, files [3]*os.File, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, runcTimeout)
	defer cancel()
	log := filepath.Join(dir, "runc.log")
	_ = os.Remove(log)                              // only this call's errors count
	cmd := exec.Command(r.Runtime, append([]string{ // the program is part of the measured image
		"--root", filepath.Join(r.Dir, "runc"), "--log", log, "--log-format", "json",
	}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Dir = "/"
	for i, to := range []func(*os.File){
		func(f *os.File) { cmd.Stdin = f }, func(f *os.File) { cmd.Stdout = f }, func(f *os.File) { cmd.Stderr = f },
	} {
		if files[i] != nil { // a nil *os.File in an interface would not be nil
			to(files[i])
		}
	}
	p, err := r.Children.Start(cmd)
	if err != nil {
		return fmt.Errorf("starting the runtime: %w", err)
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		_ = cmd.Process.Kill() // if it has ended meanwhile, all the better
		<-p.Done()
	}
	code := reaper.ExitCode(p.Wait())
	switch {
	case code == 0:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("runtime %s: %w", args[0], ctx.Err())
	}
	return fmt.Errorf("runtime %s: exit code %d: %s", args[0], code, lastError(log))
}

// lastError returns the last error that the runtime logged.
func lastError(path string) string {
	f, err := os.Open(path) // our own directory
	if err != nil {
		return "it logged nothing"
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxLog))
	if err != nil {
		return "its log can not be read"
	}
	reason := "it logged no error"
	for line := range bytes.Lines(b) {
		var entry struct{ Level, Msg string }
		err = json.Unmarshal(line, &entry)
		if err == nil && (entry.Level == "error" || entry.Level == "fatal") {
			reason = entry.Msg
		}
	}
	return reason[:min(len(reason), maxReason)]
}

// readPID reads the process number that the runtime wrote.
func readPID(path string) (int, error) {
	b, err := os.ReadFile(path) // our own directory
	if err != nil {
		return 0, fmt.Errorf("reading the runtime's process number: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("the runtime's process number %q is none", b)
	}
	return pid, nil
}
