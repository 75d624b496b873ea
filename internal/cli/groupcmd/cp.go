// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/transfer"
	"cofferdam.dev/internal/group"
)

func (a *App) copyCommand() *cobra.Command {
	var container string
	c := &cobra.Command{
		Use:   "cp SOURCE DESTINATION",
		Short: "Copy files between a container and this machine",
		Long: `Copy a file or a directory into a container or out of it. One of the two is GROUP:PATH,
with an absolute path; the other one is a path here.

It runs tar in the container, so the image must have it, and the group's policy must allow
the command: "tar -cf - -C DIR NAME" to copy out and "tar -xf - -C DIR" to copy in. All else
is refused by the guest, with the reason. What comes out of a container is taken for
hostile: no link leads out of the destination, and no owner or special file is taken over.`,
		Example: `  cofferdam group cp shop:/var/lib/report.csv .
  cofferdam group cp --container web site/ shop:/srv`,
		Args:              console.Arguments(2, 2, "a source and a destination"),
		ValidArgsFunction: a.completeCopy,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			from, fromInside := inside(args[0])
			to, toInside := inside(args[1])
			switch {
			case fromInside == toInside:
				return console.Usage(cmd, "one of the two is GROUP:PATH, and the other one a path here")
			case fromInside:
				from.container = container
				return own(a.copyOut(ctx, from, args[1]))
			}
			to.container = container
			return own(a.copyIn(ctx, args[0], to))
		},
	}
	c.Flags().StringVar(&container, "container", "", "container, where the group has several")
	a.completeContainers(c)
	return c
}

// place is a path in a container.
type place struct{ group, container, path string }

// inside tells GROUP:PATH from a path here, which has a slash before its first colon or none.
func inside(arg string) (place, bool) {
	name, p, ok := strings.Cut(arg, ":")
	if !ok || strings.ContainsAny(name, "/.") || !path.IsAbs(p) {
		return place{}, false
	}
	return place{group: name, path: path.Clean(p)}, true
}

// copyOut copies a container's file or directory to here.
func (a *App) copyOut(ctx context.Context, from place, to string) error {
	name := path.Base(from.path)
	dir, rename := to, ""
	info, err := os.Stat(to)
	if err != nil || !info.IsDir() { // the last element of the destination is the new name
		dir, rename = filepath.Dir(to), filepath.Base(to)
	}
	return a.archive(ctx, from, []string{"tar", "-cf", "-", "-C", path.Dir(from.path), name}, func(s *group.Streams) error {
		if s.Stdin != nil {
			_ = s.Stdin.Close() // it reads nothing
		}
		return transfer.Unpack(dir, name, rename, s.Stdout)
	})
}

// copyIn copies a file or directory of ours into a container's directory.
func (a *App) copyIn(ctx context.Context, from string, to place) error {
	return a.archive(ctx, to, []string{"tar", "-xf", "-", "-C", to.path}, func(s *group.Streams) error {
		if s.Stdin == nil {
			return errors.New("the policy keeps the container's standard streams from the host")
		}
		go func() { _, _ = io.Copy(io.Discard, s.Stdout) }() // it says nothing that is of use
		err := transfer.Pack(s.Stdin, from)
		return errors.Join(err, s.Stdin.Close())
	})
}

// noTar is what the OCI runtime says of an image without tar.
const noTar = `exec: "tar": executable file not found`

// archive runs tar in a container, and do with its streams.
func (a *App) archive(ctx context.Context, p place, command []string, do func(*group.Streams) error) error {
	client, err := a.Dial(p.group)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // the process has ended, or is beyond reach
	id, streams, err := client.Exec(ctx, group.ExecOptions{Container: p.container, Command: command, Stdin: true})
	if d := guestv1.DenialFrom(err); d.GetCode() == guestv1.CodePolicyDenied {
		f := console.Refusal(d)
		f.Fix = a.howToAllow(p.group, p.container, command)
		return f
	}
	if err != nil && strings.Contains(err.Error(), noTar) {
		return console.Fixed(err, "an image that has tar: it runs in the container")
	}
	if err != nil {
		return err
	}
	defer func() { _ = streams.Close() }() // likewise
	said := &tail{}
	if streams.Stderr != nil {
		go func() { _, _ = io.Copy(said, streams.Stderr) }() // its end is the process's
	}
	if streams.Stdout == nil {
		return errors.New("the policy keeps the container's standard streams from the host")
	}
	doErr := do(streams)
	ended, err := client.Wait(ctx, p.container, id)
	if err != nil {
		return errors.Join(doErr, err)
	}
	if ended.ExitCode != 0 {
		return errors.Join(fmt.Errorf("tar in the container ended with %d: %s", ended.ExitCode, said), doErr)
	}
	return doErr
}

// tail keeps the end of what a process complains of.
type tail struct {
	mu   sync.Mutex
	last []byte
}

// maxComplaint bounds what is kept.
const maxComplaint = 1 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, p...)
	t.last = t.last[max(0, len(t.last)-maxComplaint):]
	return len(p), nil
}

// String is fit for one line of a message.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return console.OneLine(string(t.last))
}
