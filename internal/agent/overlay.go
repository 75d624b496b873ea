// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"slices"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/policy/engine"
)

// MountOverlay implements guestv1.GuestService.
func (s *Service) MountOverlay(ctx context.Context, r *guestv1.MountOverlayRequest) (*guestv1.MountOverlayResponse, error) {
	point := engine.PointMountOverlay
	id := r.GetContainerId()
	c := newCheck(string(point))
	c.containerID(id)
	c.size("layer_targets", len(r.GetLayerTargets()), 1, maxLayers)
	for i, l := range r.GetLayerTargets() {
		at := fmt.Sprintf("layer_targets[%d]", i)
		c.form(at, l, layerForm)
		c.that(!slices.Contains(r.GetLayerTargets()[:i], l), at, "each layer once", quote(l)+" again")
	}
	own := engine.GuestRoot + "/" + id
	c.that(r.GetTarget() == own+"/rootfs", "target", own+"/rootfs", quote(r.GetTarget()))
	c.that(r.GetScratchTarget() == "" || r.GetScratchTarget() == own, "scratch_target", "empty, or "+own, quote(r.GetScratchTarget()))
	if c.err() != nil {
		return nil, c.err()
	}
	err := s.enter(string(point))
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	o := &overlay{target: r.GetTarget(), layers: slices.Clone(r.GetLayerTargets()), scratch: r.GetScratchTarget()}
	err = s.overlayFits(id, o)
	if err != nil {
		return nil, err
	}
	err = s.decide(ctx, point, nil, func(ctx context.Context, u Unit) (engine.Decision, error) {
		return u.MountOverlay(ctx, id, o.layers, o.target)
	}, func(ctx context.Context, _ engine.Decision) error {
		total, _ := s.cfg.Machine.MemoryBytes()
		return s.cfg.Machine.MountOverlay(ctx, o.layers, o.scratch, total/upperShare, o.target)
	})
	if err != nil {
		return nil, err
	}
	s.use(o, 1)
	s.overlays[id] = o
	return &guestv1.MountOverlayResponse{}, nil
}

// overlayFits checks an overlay against what is mounted.
func (s *Service) overlayFits(id string, o *overlay) error {
	point := string(engine.PointMountOverlay)
	if s.overlays[id] != nil {
		return denial(guestv1.CodeWrongState, point, "the container's root filesystem is mounted already")
	}
	if len(s.overlays) >= maxContainers {
		return denial(guestv1.CodeTooMany, point, fmt.Sprintf("%d root filesystems are mounted", maxContainers))
	}
	for _, l := range o.layers {
		if s.layers[l] == nil {
			return denial(guestv1.CodeNotFound, point, "no layer is mounted at "+l)
		}
	}
	if o.scratch != "" && s.scratch[o.scratch] == nil {
		return denial(guestv1.CodeNotFound, point, "no scratch disk is mounted at "+o.scratch)
	}
	if o.scratch == "" && s.scratch[engine.GuestRoot+"/"+id] != nil {
		return denial(guestv1.CodeWrongState, point, "the container's scratch disk is mounted, and not used by the request")
	}
	return nil
}

// use counts an overlay's use of its layers.
func (s *Service) use(o *overlay, n int) {
	for _, l := range o.layers {
		s.layers[l].users += n
	}
	if o.scratch != "" {
		s.scratch[o.scratch].used = n > 0
	}
}

// UnmountOverlay implements guestv1.GuestService.
func (s *Service) UnmountOverlay(ctx context.Context, r *guestv1.UnmountOverlayRequest) (*guestv1.UnmountOverlayResponse, error) {
	point := engine.PointUnmountOverlay
	c := newCheck(string(point))
	c.form("target", r.GetTarget(), rootfsForm)
	if c.err() != nil {
		return nil, c.err()
	}
	err := s.enter(string(point))
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	id := idOf(r.GetTarget())
	o := s.overlays[id]
	if o == nil {
		return nil, denial(guestv1.CodeNotFound, string(point), "no root filesystem is mounted at "+r.GetTarget())
	}
	if i := s.containers[id]; i != nil && !i.removed {
		d := denial(guestv1.CodeWrongState, string(point), "a container uses the root filesystem")
		d.Fix = "shut the container down first"
		return nil, d
	}
	err = s.decide(ctx, point, nil, func(ctx context.Context, u Unit) (engine.Decision, error) {
		return u.UnmountOverlay(ctx, o.target)
	}, func(ctx context.Context, _ engine.Decision) error {
		err := s.cfg.Machine.UnmountOverlay(ctx, o.target)
		if err != nil {
			return s.breakDown(string(point), err)
		}
		s.use(o, -1)
		delete(s.overlays, id)
		delete(s.containers, id)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &guestv1.UnmountOverlayResponse{}, nil
}
