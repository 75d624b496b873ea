// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/agent/container"
)

// Bounds of what the host puts into a volume with one request.
const (
	maxFill         = 1 << 20 // bytes of content
	maxFillFiles    = 1024
	maxFillPath     = 1024
	maxFillElements = 16
	maxFileName     = 255 // the kernel's NAME_MAX
	defaultFileMode = 0o644
)

var (
	fillForm  = formOf(1, 180, sandboxScheme+container.FillPattern)
	shareForm = formOf(1, 180, sandboxScheme+container.SharePattern)
)

// FillVolume implements guestv1.GuestService. No policy is asked: what a container may mount, it says when the container is
// created, and the content of volumes of these classes is the host's whatever it says.
func (s *Service) FillVolume(_ context.Context, r *guestv1.FillVolumeRequest) (*guestv1.FillVolumeResponse, error) {
	const call = "FillVolume"
	files, err := checkFill(call, r)
	if err != nil {
		return nil, err
	}
	err = s.enter(call)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	err = s.cfg.Runtime.Fill(strings.TrimPrefix(r.GetSource(), sandboxScheme), files)
	if errors.Is(err, container.ErrFull) {
		return nil, denial(guestv1.CodeTooMany, call, clip(err.Error(), maxReason))
	}
	if err != nil {
		return nil, failed(call, err)
	}
	return &guestv1.FillVolumeResponse{}, nil
}

func checkFill(call string, r *guestv1.FillVolumeRequest) ([]container.File, error) {
	c := newCheck(call)
	c.form("source", r.GetSource(), fillForm)
	c.size("files", len(r.GetFiles()), 0, maxFillFiles)
	var files []container.File
	total := 0
	for i, f := range r.GetFiles() {
		at := fmt.Sprintf("files[%d].", i)
		c.relative(at+"path", f.GetPath())
		c.that(f.GetMode() <= 0o777, at+"mode", "permission bits", strconv.FormatUint(uint64(f.GetMode()), 8))
		total += len(f.GetContent())
		file := container.File{Path: f.GetPath(), Content: f.GetContent(), Mode: f.GetMode(), Append: f.GetAppend()}
		if file.Mode == 0 {
			file.Mode = defaultFileMode
		}
		files = append(files, file)
	}
	c.size("files in bytes", total, 0, maxFill)
	return files, c.err()
}

// relative checks the path of a file in a volume.
func (c *check) relative(field, p string) {
	elements := strings.Split(p, "/")
	ok := p != "" && len(p) <= maxFillPath && len(elements) <= maxFillElements && path.Clean(p) == p && !path.IsAbs(p) &&
		p != "." && elements[0] != ".." && !strings.Contains(p, "\x00")
	for _, e := range elements {
		ok = ok && len(e) <= maxFileName
	}
	c.that(ok, field, fmt.Sprintf("a relative, clean path of at most %d bytes and %d elements", maxFillPath, maxFillElements), quote(p))
}

// ShareVolume implements guestv1.GuestService. As with FillVolume the policy says what mounts a container may have, and that
// it may have one of this class.
func (s *Service) ShareVolume(_ context.Context, r *guestv1.ShareVolumeRequest) (*guestv1.ShareVolumeResponse, error) {
	const call = "ShareVolume"
	c := newCheck(call)
	c.form("source", r.GetSource(), shareForm)
	if c.err() != nil {
		return nil, c.err()
	}
	err := s.enter(call)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	volume, err := s.cfg.Runtime.Share(strings.TrimPrefix(r.GetSource(), sandboxScheme), r.GetReadOnly())
	if errors.Is(err, container.ErrExists) || errors.Is(err, container.ErrShared) {
		d := denial(guestv1.CodeWrongState, call, err.Error())
		d.Fix = "share it once, and before the first container mounts it"
		return nil, d
	}
	if err != nil {
		return nil, failed(call, err)
	}
	token, err := s.cfg.Streams.Grant(volume.Serve)
	if err != nil {
		volume.Close()
		return nil, failed(call, err)
	}
	return &guestv1.ShareVolumeResponse{Token: token}, nil
}
