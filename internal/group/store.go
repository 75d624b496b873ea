// SPDX-License-Identifier: Apache-2.0

package group

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/group/event"
)

var (
	// ErrExists says that the name of a new group is taken.
	ErrExists = errors.New("a group of this name exists")
	// ErrNotFound says that no group has the name or ID asked for.
	ErrNotFound = errors.New("no such group")
	// ErrRunning says that a group can not be removed because it runs.
	ErrRunning = errors.New("the group is running")
	// ErrNotRunning says that a group has no supervisor to talk to.
	ErrNotRunning = errors.New("the group is not running")
)

// ReasonSupervisorGone is the reason of a group whose supervisor ended without saying why.
const ReasonSupervisorGone = "the supervisor is gone: it was killed, or the machine was restarted"

// Store is the directory of all groups, "groups" in the state directory.
type Store struct {
	home string
	dir  string
	now  func() time.Time
}

// Group is one group's directory.
type Group struct {
	// Dir is absolute.
	Dir    string
	Record *Record
	// Alive is true while the group's supervisor holds its lock.
	Alive bool
}

// OpenStore opens the store of the state directory home and makes it if need be.
func OpenStore(home string) (*Store, error) {
	home, err := filepath.Abs(home)
	if err != nil {
		return nil, fmt.Errorf("opening the group store: %w", err)
	}
	s := &Store{home: home, dir: filepath.Join(home, "groups"), now: time.Now}
	err = os.MkdirAll(s.dir, 0o700)
	if err != nil {
		return nil, fmt.Errorf("opening the group store: %w", err)
	}
	return s, nil
}

// Home is the state directory that the store lies in.
func (s *Store) Home() string { return s.home }

// lock serialises everything that makes, lists or removes groups. It is held for moments only, and whoever tries a
// group's own lock holds it, so that two who look can not take each other for the supervisor.
func (s *Store) lock() (func(), error) {
	f, err := lockFile(filepath.Join(s.dir, ".lock"), unix.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("locking the group store: %w", err)
	}
	return func() { letGo(f) }, nil
}

// Load reads the plan and the record of the group directory dir.
func Load(dir string) (*Plan, *Record, error) {
	data, err := os.ReadFile(filepath.Join(dir, filePlan))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the plan: %w", err)
	}
	p, err := ParsePlan(data)
	if err != nil {
		return nil, nil, err
	}
	data, err = os.ReadFile(filepath.Join(dir, fileRecord))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the record: %w", err)
	}
	r, err := ParseRecord(data)
	return p, r, err
}

// List returns all groups, newest first, with their true state: a group whose supervisor is gone is marked as failed
// and cleaned up on the way. A group that can not be read is left out and named in the returned error, next to the
// others.
func (s *Store) List() ([]*Group, error) {
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("listing groups: %w", err)
	}
	var groups []*Group
	var broken []error
	for _, e := range entries {
		if !e.IsDir() || ValidateName(e.Name()) != nil {
			continue
		}
		g, err := s.load(e.Name())
		switch {
		case errors.Is(err, os.ErrNotExist): // a Create that was killed half-way; the next one clears it
		case err != nil:
			broken = append(broken, err)
		default:
			groups = append(groups, g)
		}
	}
	slices.SortFunc(groups, func(a, b *Group) int { return b.Record.Created.Compare(a.Record.Created) })
	return groups, errors.Join(broken...)
}

// load reads one group and settles its state. The store's lock is held.
func (s *Store) load(name string) (*Group, error) {
	dir := filepath.Join(s.dir, name)
	g := &Group{Dir: dir}
	// The lock is tried before the record is read: a supervisor writes its last record before it lets go, so whoever
	// gets the lock reads the final word.
	lock, err := lockFile(filepath.Join(dir, fileLock), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		g.Alive = true
	case err != nil:
		return nil, fmt.Errorf("opening the group %s: %w", name, err)
	default:
		defer letGo(lock)
	}
	data, err := os.ReadFile(filepath.Join(dir, fileRecord))
	if err != nil {
		return nil, fmt.Errorf("opening the group %s: %w", name, err)
	}
	g.Record, err = ParseRecord(data)
	if err != nil {
		return nil, fmt.Errorf("opening the group %s: %w", name, err)
	}
	if g.Alive {
		return g, nil
	}
	if !g.Record.State.Final() {
		s.bury(g)
	}
	err = sweep(dir)
	if err != nil {
		slog.Warn("could not clean up after a dead group", slog.String("group", name), slog.Any("error", err))
	}
	return g, nil
}

// bury settles a group whose supervisor is gone, and tells so in its events. Its lock is held by the caller.
func (s *Store) bury(g *Group) {
	Settle(g.Record, StateFailed, ReasonSupervisorGone, s.now())
	err := WriteRecord(g.Dir, g.Record)
	if err == nil {
		err = lastEvent(g.Dir)
	}
	if err != nil {
		slog.Warn("could not settle a dead group", slog.String("group", g.Record.Name), slog.Any("error", err))
	}
}

// lastEvent notes in the group directory dir that the machine went with its supervisor. Its time is that of the discovery.
func lastEvent(dir string) error {
	l, err := event.Open(EventsPath(dir))
	if err != nil {
		return err
	}
	return errors.Join(l.Add("", event.MachineLost, event.Warning, "The machine was lost: "+ReasonSupervisorGone), l.Close())
}

// Settle puts r and its containers into the final state s.
func Settle(r *Record, s State, reason string, now time.Time) {
	r.State, r.Reason, r.Finished = s, reason, &now
	r.SupervisorPID, r.MachinePID, r.Ready = 0, 0, false
	for i := range r.Containers {
		c := &r.Containers[i]
		c.Ready = false
		if !c.State.Final() {
			c.State, c.Reason, c.Finished = StateFailed, reason, &now
		}
	}
}

// Lookup finds the group that ref names: its name, its ID, or a prefix of its ID of at least four characters.
func (s *Store) Lookup(ref string) (*Group, error) {
	groups, err := s.List()
	var found []*Group
	for _, g := range groups {
		if g.Record.Name == ref || g.Record.ID == ref {
			return g, nil
		}
		if len(ref) >= minPrefix && strings.HasPrefix(g.Record.ID, ref) {
			found = append(found, g)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return nil, fmt.Errorf("%q names %d groups: give more of the ID", ref, len(found))
	case err != nil:
		return nil, err
	}
	return nil, fmt.Errorf("%w: %q", ErrNotFound, ref)
}

// Remove deletes a group that does not run. The error is ErrRunning for one that does.
func (s *Store) Remove(ref string) error {
	g, err := s.Lookup(ref)
	if err != nil {
		return err
	}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	lock, err := lockFile(filepath.Join(g.Dir, fileLock), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%w: %s", ErrRunning, g.Record.Name)
	}
	if err != nil {
		return fmt.Errorf("removing the group %s: %w", g.Record.Name, err)
	}
	defer letGo(lock)
	err = removeDir(g.Dir)
	if err != nil {
		return fmt.Errorf("removing the group %s: %w", g.Record.Name, err)
	}
	return nil
}

// removeDir deletes a group's directory. The record goes first: without it the directory is no group any more, so that whoever
// is killed half-way leaves none without a plan or a log. The next group of the name clears the rest.
func removeDir(dir string) error {
	err := os.Remove(filepath.Join(dir, fileRecord))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.RemoveAll(dir)
}

// Discard deletes a group whose lock the caller holds: a supervisor's last act for a group that asked for it.
func (s *Store) Discard(name string) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	err = removeDir(filepath.Join(s.dir, name))
	if err != nil {
		return fmt.Errorf("removing the group %s: %w", name, err)
	}
	return nil
}

// RemoveScratch deletes what the group directory dir holds for its machine alone: scratch disks, whose keys died with the
// guest, and what was cloned for volumes.
func RemoveScratch(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "scratch*.img"))
	if err != nil {
		return err
	}
	errs := []error{os.RemoveAll(ClonePath(dir))}
	for _, f := range files {
		errs = append(errs, os.Remove(f))
	}
	return errors.Join(errs...)
}

// sweep removes what a supervisor that was killed may have left in dir, at whatever moment that was.
func sweep(dir string) error {
	halves, err := filepath.Glob(filepath.Join(dir, ".new-*")) // files that were being written
	errs := []error{err, RemoveSocket(dir), RemoveScratch(dir)}
	for _, f := range halves {
		errs = append(errs, os.Remove(f))
	}
	dropReserve(dir) // a final record was written, and its writer may have been killed before it could give the room back
	return errors.Join(errs...)
}
