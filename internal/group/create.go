// SPDX-License-Identifier: Apache-2.0

package group

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/wholefile"
)

// Created is a group that was made, or reset, and not started. Its lock is held, so that nobody else takes it for dead; Close or
// Start gives the lock away.
type Created struct {
	Group
	plan   *Plan
	lock   *os.File
	before *Record // of a group that was reset: how it had ended
}

// Close gives the group up and removes it. One that was there before and was reset stays, as it had ended.
func (c *Created) Close() error {
	if c.lock == nil {
		return nil
	}
	if c.before != nil {
		return c.undo()
	}
	err := removeDir(c.Dir)
	c.letGo()
	return err
}

// letGo gives the lock up for good.
func (c *Created) letGo() {
	letGo(c.lock)
	c.lock = nil
}

// release closes our copy of a lock that was handed on.
func (c *Created) release() error {
	err := c.lock.Close()
	c.lock = nil
	return err
}

// Create makes a group of plan, filling in the name and the container IDs that plan leaves empty. The error is
// ErrExists when another group has the name, even one that has ended.
func (s *Store) Create(plan *Plan) (*Created, error) {
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	err = s.complete(plan)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(s.dir, plan.Name)
	err = s.clearUnfinished(dir)
	if err != nil {
		return nil, err
	}
	err = os.Mkdir(dir, 0o700)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("%w: %s", ErrExists, plan.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("making the group %s: %w", plan.Name, err)
	}
	c := &Created{Group: Group{Dir: dir, Record: newRecord(plan, s.now())}, plan: plan}
	err = c.fill(plan)
	if err != nil {
		_ = os.RemoveAll(dir) // the first error is the telling one
		return nil, fmt.Errorf("making the group %s: %w", plan.Name, err)
	}
	return c, nil
}

// complete fills in what the plan leaves open and validates it.
func (s *Store) complete(plan *Plan) error {
	if plan.Schema == "" {
		plan.Schema = PlanSchema
	}
	for i := range plan.Containers {
		if plan.Containers[i].ID == "" {
			plan.Containers[i].ID = newID(32)
		}
	}
	for plan.Name == "" {
		name := randomName()
		_, err := os.Lstat(filepath.Join(s.dir, name))
		if errors.Is(err, os.ErrNotExist) {
			plan.Name = name
		} else if err != nil {
			return fmt.Errorf("finding a name for the group: %w", err)
		}
	}
	return plan.Validate()
}

// clearUnfinished removes what a Create that was killed half-way left: a directory without a record.
func (s *Store) clearUnfinished(dir string) error {
	_, err := os.Lstat(filepath.Join(dir, fileRecord))
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.RemoveAll(dir)
}

// fill writes the files of a new group. The record comes last: it makes the directory a group.
func (c *Created) fill(plan *Plan) error {
	err := os.Mkdir(filepath.Join(c.Dir, dirLogs), 0o700)
	if err != nil {
		return err
	}
	err = makeReserve(c.Dir)
	if err != nil {
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
	c.lock, err = lockFile(filepath.Join(c.Dir, fileLock), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return err
	}
	err = WriteRecord(c.Dir, c.Record)
	if err != nil {
		c.letGo()
		return err
	}
	return nil
}

// WriteRecord stores r in the group directory dir. On a disk that is full it falls back on the room that was set aside,
// once; a final record needs none any more.
func WriteRecord(dir string, r *Record) error {
	data, err := r.Marshal()
	if err != nil {
		return err
	}
	err = wholefile.Replace(filepath.Join(dir, fileRecord), data, 0o600)
	if errors.Is(err, unix.ENOSPC) && dropReserve(dir) {
		err = wholefile.Replace(filepath.Join(dir, fileRecord), data, 0o600)
	}
	if err == nil && r.State.Final() {
		dropReserve(dir)
	}
	return err
}
