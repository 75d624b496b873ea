// SPDX-License-Identifier: Apache-2.0

package group

import (
	"context"
	"errors"
	"path/filepath"

	"cofferdam.dev/internal/group/event"
	"cofferdam.dev/internal/group/logfile"

	"golang.org/x/sys/unix"
)

// LogPath is the log file of a container in the group directory dir.
func LogPath(dir, container string) string { return filepath.Join(dir, dirLogs, container+".log") }

// ConsolePath is the machine's console in the group directory dir: what the guest's kernel and agent print.
func ConsolePath(dir string) string { return filepath.Join(dir, fileConsole) }

// SupervisorLogPath is the supervisor's own log in the group directory dir.
func SupervisorLogPath(dir string) string { return filepath.Join(dir, fileSupervisor) }

// Logs calls fn for each piece of output of a container, oldest first. With opts.Follow it goes on until the group's
// supervisor is gone; opts.Alive is set here.
func (s *Store) Logs(ctx context.Context, ref, container string, opts logfile.Options, fn func(logfile.Entry) error) error {
	g, err := s.Lookup(ref)
	if err != nil {
		return err
	}
	c, err := g.Record.Container(container)
	if err != nil {
		return err
	}
	opts.Alive = func() bool { return s.alive(g) }
	return logfile.Read(ctx, LogPath(g.Dir, c.Name), opts, fn)
}

// Events calls fn for each event of the group that ref names, in the order of their last occurrence. With opts.Follow it
// goes on until the group's supervisor is gone; opts.Alive is set here.
func (s *Store) Events(ctx context.Context, ref string, opts event.Options, fn func(event.Event) error) error {
	g, err := s.Lookup(ref)
	if err != nil {
		return err
	}
	opts.Alive = func() bool { return s.alive(g) }
	return event.Read(ctx, EventsPath(g.Dir), opts, fn)
}

// alive asks g's lock again, under the store's lock like everybody who tries it.
func (s *Store) alive(g *Group) bool {
	unlock, err := s.lock()
	if err != nil {
		return false
	}
	defer unlock()
	lock, err := lockFile(filepath.Join(g.Dir, fileLock), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		letGo(lock) // it was ours for a moment only
	}
	return errors.Is(err, unix.EWOULDBLOCK)
}
