// SPDX-License-Identifier: Apache-2.0

package group

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"cofferdam.dev/internal/wholefile"

	"golang.org/x/sys/unix"
)

// Reset makes a group that has ended ready to be started again, with the same plan, new container IDs, and its logs and
// events going on. Follow it with Start. The error is ErrRunning for a group that has not ended. The files of its volumes
// have to be given to Start again.
func (s *Store) Reset(ref string) (*Created, error) {
	g, err := s.Lookup(ref)
	if err != nil {
		return nil, err
	}
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	lock, err := lockFile(filepath.Join(g.Dir, fileLock), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("%w: %s", ErrRunning, g.Record.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("starting the group %s again: %w", g.Record.Name, err)
	}
	c := &Created{Group: Group{Dir: g.Dir}, lock: lock}
	err = c.reset()
	if err != nil {
		letGo(lock)
		return nil, fmt.Errorf("starting the group %s again: %w", g.Record.Name, err)
	}
	return c, nil
}

// reset writes a plan with new IDs, and a record of a group that has not started.
func (c *Created) reset() error {
	plan, before, err := Load(c.Dir)
	if err != nil {
		return err
	}
	for i := range plan.Containers {
		plan.Containers[i].ID = newID(32)
	}
	c.plan, c.before = plan, before
	c.Record = newRecord(plan, before.Created)
	c.Record.ID, c.Record.Runs = before.ID, max(before.Runs, 1)+1
	err = makeReserve(c.Dir)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	data, err := marshalPlan(plan)
	if err != nil {
		return err
	}
	err = wholefile.Replace(filepath.Join(c.Dir, filePlan), data, 0o600)
	if err != nil {
		return err
	}
	return WriteRecord(c.Dir, c.Record)
}

// undo leaves a group that was reset, and not started, as it had ended.
func (c *Created) undo() error {
	err := WriteRecord(c.Dir, c.before)
	c.letGo()
	return err
}
