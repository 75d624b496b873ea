// SPDX-License-Identifier: Apache-2.0

package gitrepo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// maxOutput bounds what is read of git where it says little, and maxErrorText what is kept of its complaints, among
	// which are the server's: the rest is read and dropped.
	maxOutput    = 64 << 10
	maxErrorText = 1 << 10
	// maxMemory bounds the address space of git and each of its helpers: an object of a few bytes can stand for gigabytes.
	maxMemory = 2 << 30
)

// limits has the shell bound what git and its helpers take of memory, in KiB, and how long a file they write, in blocks of 512 bytes,
// before it becomes git. Where a limit fails there is a tighter one already. The size of all files is watched besides.
const limits = `ulimit -c 0; ulimit -v "$1"; ulimit -f "$2"; shift 2; exec "$0" "$@"`

// command is git within limits and without anybody's configuration. The URL is in its environment, which only we can read.
func (r *repository) command(ctx context.Context, args ...string) *exec.Cmd {
	memory, blocks := strconv.FormatUint(r.o.maxMemory>>10, 10), strconv.FormatInt(2*r.o.MaxBytes>>9, 10)
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", limits, r.git, memory, blocks}, args...)...)
	cmd.Dir = r.o.Dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=/bin/false", "GIT_ALLOW_PROTOCOL=" + strings.Join(r.o.Protocols, ":"), "GIT_NO_LAZY_FETCH=1",
		"GIT_CONFIG_COUNT=6", "GIT_CONFIG_KEY_0=remote.origin.url", "GIT_CONFIG_VALUE_0=" + r.o.URL,
		"GIT_CONFIG_KEY_1=core.hooksPath", "GIT_CONFIG_VALUE_1=/dev/null", "GIT_CONFIG_KEY_2=gc.auto", "GIT_CONFIG_VALUE_2=0",
		"GIT_CONFIG_KEY_3=core.bigFileThreshold", "GIT_CONFIG_VALUE_3=1m", // larger ones are never in memory as a whole
		"GIT_CONFIG_KEY_4=pack.threads", "GIT_CONFIG_VALUE_4=1", // each takes address space
		"GIT_CONFIG_KEY_5=maintenance.auto", "GIT_CONFIG_VALUE_5=false", // it would outlive git, and our limits
	}
	for _, name := range []string{"http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY"} {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // its helpers, too
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// stream runs git and has use write its input and read its output. Once use has failed git is ended. Git's own words are in the
// error, without the password.
func (r *repository) stream(ctx context.Context, use func(in io.Writer, out *bufio.Reader) error, args ...string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := r.command(ctx, args...)
	words := &tail{}
	cmd.Stderr = words
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("git %s: %w", args[0], err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("git %s: %w", args[0], err)
	}
	runtime.LockOSThread() // the death signal is sent when the thread ends that forked
	defer runtime.UnlockOSThread()
	err = cmd.Start()
	if err != nil {
		return r.failed(args[0], err, "")
	}
	err = use(in, bufio.NewReader(out))
	if err != nil {
		cancel()
	}
	errIn := in.Close()
	errWait := cmd.Wait()
	if err != nil {
		return err
	}
	if errWait == nil && errIn != nil && !errors.Is(errIn, os.ErrClosed) {
		errWait = errIn
	}
	if errWait != nil {
		return r.failed(args[0], errWait, string(words.kept))
	}
	return nil
}

// run runs git to its end and returns its output, which is short.
func (r *repository) run(ctx context.Context, args ...string) ([]byte, error) {
	var said []byte
	err := r.stream(ctx, func(_ io.Writer, out *bufio.Reader) error {
		var err error
		said, err = io.ReadAll(io.LimitReader(out, maxOutput))
		if err == nil {
			_, err = io.Copy(io.Discard, out)
		}
		return err
	}, args...)
	return said, err
}

func (r *repository) failed(what string, err error, words string) error {
	words = strings.TrimSpace(strings.ReplaceAll(words, r.o.URL, r.shown))
	if u, perr := url.Parse(r.o.URL); perr == nil && u.User != nil {
		secret, ok := u.User.Password()
		if !ok { // then the name may be a token
			secret = u.User.Username()
		}
		if secret != "" {
			words = strings.ReplaceAll(words, secret, "xxxxx")
		}
	}
	return fmt.Errorf("git %s: %w: %s", what, err, words[max(0, len(words)-maxErrorText):])
}

// tail keeps the end of what is written to it: enough for the password to be found in what is shown of it.
type tail struct{ kept []byte }

func (t *tail) Write(p []byte) (int, error) {
	const most = 4 * maxErrorText
	t.kept = append(t.kept, p[max(0, len(p)-most):]...)
	t.kept = append(t.kept[:0], t.kept[max(0, len(t.kept)-most):]...)
	return len(p), nil
}
