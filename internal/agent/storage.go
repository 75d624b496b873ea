// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/hex"
	"fmt"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/policy/engine"
)

// upperShare is the part of the guest's memory that a container's writable layer in memory may take.
const upperShare = 4

// groupScratch is the target of the disk that the group's empty directories lie on.
const groupScratch = engine.GuestRoot + "/sandbox"

// scratchFilesystem is what the guest puts on a scratch disk.
const scratchFilesystem = "ext4"

// MountLayer implements guestv1.GuestService.
func (s *Service) MountLayer(ctx context.Context, r *guestv1.MountLayerRequest) (*guestv1.MountLayerResponse, error) {
	point := engine.PointMountDevice
	c := newCheck(string(point))
	c.form("serial", r.GetSerial(), serialForm)
	c.size("root_hash", len(r.GetRootHash()), 32, 32)
	c.number("data_blocks", r.GetDataBlocks(), 1, maxDataBlocks)
	c.form("target", r.GetTarget(), layerForm)
	if c.err() != nil {
		return nil, c.err()
	}
	err := s.enter(string(point))
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	err = s.newDevice(point, r.GetSerial())
	if err != nil {
		return nil, err
	}
	target, root := r.GetTarget(), [32]byte(r.GetRootHash())
	err = s.decide(ctx, point, nil, func(ctx context.Context, u Unit) (engine.Decision, error) {
		return u.MountDevice(ctx, target, hex.EncodeToString(root[:]))
	}, func(ctx context.Context, _ engine.Decision) error {
		return s.cfg.Machine.OpenLayer(ctx, r.GetSerial(), root, r.GetDataBlocks(), target)
	})
	if err != nil {
		return nil, err
	}
	s.layers[target] = &layer{serial: r.GetSerial()}
	return &guestv1.MountLayerResponse{}, nil
}

// newDevice checks that a disk is not in use and that one more fits.
func (s *Service) newDevice(point engine.Point, serial string) error {
	if s.serialUsed(serial) {
		d := denial(guestv1.CodeWrongState, string(point), "the disk is mounted already")
		d.Field, d.Actual = "serial", quote(serial)
		return d
	}
	if len(s.layers)+len(s.scratch) >= maxDevices {
		return denial(guestv1.CodeTooMany, string(point), fmt.Sprintf("%d disks are mounted", maxDevices))
	}
	return nil
}

// UnmountLayer implements guestv1.GuestService.
func (s *Service) UnmountLayer(ctx context.Context, r *guestv1.UnmountLayerRequest) (*guestv1.UnmountLayerResponse, error) {
	point := engine.PointUnmountDevice
	c := newCheck(string(point))
	c.form("target", r.GetTarget(), layerForm)
	if c.err() != nil {
		return nil, c.err()
	}
	err := s.enter(string(point))
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	target := r.GetTarget()
	l, ok := s.layers[target]
	if !ok {
		return nil, denial(guestv1.CodeNotFound, string(point), "no layer is mounted at "+target)
	}
	if l.users > 0 {
		return nil, denial(guestv1.CodeWrongState, string(point), "an overlay uses the layer at "+target)
	}
	err = s.decide(ctx, point, nil, func(ctx context.Context, u Unit) (engine.Decision, error) {
		return u.UnmountDevice(ctx, target)
	}, func(ctx context.Context, _ engine.Decision) error {
		err := s.cfg.Machine.CloseLayer(ctx, target)
		if err != nil {
			return s.breakDown(string(point), err)
		}
		delete(s.layers, target)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &guestv1.UnmountLayerResponse{}, nil
}

// scratchTarget checks the target of a scratch disk.
func (c *check) scratchTarget(target string) {
	if target != groupScratch {
		c.form("target", target, scratchForm)
	}
}

// MountScratch implements guestv1.GuestService.
func (s *Service) MountScratch(ctx context.Context, r *guestv1.MountScratchRequest) (*guestv1.MountScratchResponse, error) {
	point := engine.PointRWMountDevice
	c := newCheck(string(point))
	c.form("serial", r.GetSerial(), serialForm)
	c.scratchTarget(r.GetTarget())
	if c.err() != nil {
		return nil, c.err()
	}
	err := s.enter(string(point))
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	err = s.newDevice(point, r.GetSerial())
	if err != nil {
		return nil, err
	}
	target := r.GetTarget()
	if s.overlays[idOf(target+"/rootfs")] != nil {
		return nil, denial(guestv1.CodeWrongState, string(point), "the container's root filesystem is mounted already")
	}
	if target == groupScratch && s.created {
		return nil, denial(guestv1.CodeWrongState, string(point), "a container was created, whose volumes are in memory")
	}
	x := &scratch{serial: r.GetSerial(), at: target}
	err = s.decide(ctx, point, nil, func(ctx context.Context, u Unit) (engine.Decision, error) {
		return u.RWMountDevice(ctx, target, true, true, scratchFilesystem)
	}, func(ctx context.Context, _ engine.Decision) error {
		if target == groupScratch {
			return s.openGroupScratch(ctx, x)
		}
		return s.cfg.Machine.OpenScratch(ctx, x.serial, x.at)
	})
	if err != nil {
		return nil, err
	}
	s.scratch[target] = x
	return &guestv1.MountScratchResponse{}, nil
}

// openGroupScratch mounts a disk where the group's empty directories will be.
func (s *Service) openGroupScratch(ctx context.Context, x *scratch) error {
	var err error
	x.at, err = s.cfg.Runtime.ScratchRoom()
	if err != nil {
		return err
	}
	err = s.cfg.Machine.OpenScratch(ctx, x.serial, x.at)
	if err != nil {
		return err
	}
	err = s.cfg.Runtime.UseScratch(true)
	if err == nil {
		return nil
	}
	undo := s.cfg.Machine.CloseScratch(ctx, x.at)
	if undo != nil {
		return s.breakDown(string(engine.PointRWMountDevice), undo)
	}
	return err
}

// UnmountScratch implements guestv1.GuestService.
func (s *Service) UnmountScratch(ctx context.Context, r *guestv1.UnmountScratchRequest) (*guestv1.UnmountScratchResponse, error) {
	point := engine.PointRWUnmountDevice
	c := newCheck(string(point))
	c.scratchTarget(r.GetTarget())
	if c.err() != nil {
		return nil, c.err()
	}
	err := s.enter(string(point))
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	target := r.GetTarget()
	x, ok := s.scratch[target]
	if !ok {
		return nil, denial(guestv1.CodeNotFound, string(point), "no scratch disk is mounted at "+target)
	}
	if x.used {
		return nil, denial(guestv1.CodeWrongState, string(point), "an overlay uses the scratch disk at "+target)
	}
	if target == groupScratch && s.created {
		return nil, denial(guestv1.CodeWrongState, string(point), "the group's volumes are on the scratch disk, and stay until power-off")
	}
	err = s.decide(ctx, point, nil, func(ctx context.Context, u Unit) (engine.Decision, error) {
		return u.RWUnmountDevice(ctx, target)
	}, func(ctx context.Context, _ engine.Decision) error {
		err := s.cfg.Machine.CloseScratch(ctx, x.at)
		if err == nil && target == groupScratch {
			err = s.cfg.Runtime.UseScratch(false)
		}
		if err != nil {
			return s.breakDown(string(point), err)
		}
		delete(s.scratch, target)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &guestv1.UnmountScratchResponse{}, nil
}
