// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/event"
	"cofferdam.dev/internal/group/gitrepo"
	"cofferdam.dev/internal/sandbox"
	"cofferdam.dev/internal/spec"
)

// configureNetwork says how the containers find others, if the plan has something to say.
func (s *supervisor) configureNetwork(ctx context.Context) error {
	d := s.plan.DNS
	if len(d.Servers)+len(d.Search)+len(d.Options)+len(s.plan.HostAliases)+len(s.plan.Addresses) == 0 {
		return nil
	}
	req := &guestv1.ConfigureNetworkRequest{
		Nameservers: d.Servers, Search: d.Search, Options: d.Options, Addresses: s.plan.Addresses, Gateways: s.plan.Gateways,
	}
	for _, a := range s.plan.HostAliases {
		req.Hosts = append(req.Hosts, &guestv1.HostsEntry{Address: a.Address, Names: a.Names})
	}
	return s.vm.Guest().ConfigureNetwork(ctx, req)
}

// prepareVolumes mounts the disk that the volumes lie on, if there is one, and gives each volume its content.
func (s *supervisor) prepareVolumes(ctx context.Context, contents group.Contents) error {
	if s.plan.ScratchMiB > 0 {
		err := s.vm.Guest().MountScratch(ctx, sandbox.GroupScratch, groupScratch)
		if err != nil {
			return err
		}
	}
	for i := range s.plan.Volumes {
		v := &s.plan.Volumes[i]
		err := s.prepareVolume(ctx, v, contents[v.Name])
		if err != nil {
			err = fmt.Errorf("volume %s: %w", v.Name, err)
			s.event("", event.VolumeFailed, event.Warning, "%s", oneLine(err))
			return err
		}
	}
	return nil
}

func (s *supervisor) prepareVolume(ctx context.Context, v *group.Volume, files []spec.File) error {
	f := &filler{ctx: ctx, guest: s.vm.Guest(), source: v.Source}
	switch {
	case len(files) > 0:
		for _, file := range files {
			err := f.add(file.Path, file.Mode, file.Content)
			if err != nil {
				return err
			}
		}
		return f.flush()
	case v.Repository != nil:
		return s.cloneInto(ctx, f, v)
	case v.HostDir != "":
		return s.share(ctx, v)
	}
	return nil
}

// cloneInto fills a volume with the files of a repository's commit.
func (s *supervisor) cloneInto(ctx context.Context, f *filler, v *group.Volume) error {
	r := v.Repository
	dir := r.Directory
	if dir == "" {
		dir = strings.TrimSuffix(path.Base(strings.TrimRight(r.URL, "/")), ".git")
	}
	res, err := gitrepo.Read(ctx, gitrepo.Options{
		Dir: group.ClonePath(s.dir), URL: r.URL, Commit: r.Revision, Protocols: s.cfg.GitProtocols,
	}, func(file gitrepo.File) error {
		mode := uint32(0o644)
		if file.Executable {
			mode = 0o755
		}
		return f.copy(path.Join(dir, file.Path), mode, file.Content)
	})
	if err == nil {
		err = f.flush()
	}
	if err != nil {
		return err
	}
	left := ""
	if res.Left > 0 {
		left = fmt.Sprintf("; %d symbolic links and submodules were left out", res.Left)
	}
	s.event("", event.VolumeReady, event.Normal, "Volume %s holds commit %s%s", v.Name, res.Commit, left)
	return nil
}

// maxFill and maxFillFiles are what the guest takes at once: bytes of content, and files.
const (
	maxFill      = 1 << 20
	maxFillFiles = 1024
)

// filler puts files into one volume, many at a time.
type filler struct {
	ctx    context.Context
	guest  *sandbox.Guest
	source string
	files  []*guestv1.VolumeFile
	size   int
}

// add takes a file with its whole content. It is the caller's again after flush.
func (f *filler) add(name string, mode uint32, content []byte) error {
	for more := false; len(content) > 0 || !more; more = true {
		n := min(len(content), maxFill)
		err := f.piece(name, mode, content[:n:n], more)
		if err != nil {
			return err
		}
		content = content[n:]
	}
	return nil
}

// copy takes a file piece by piece.
func (f *filler) copy(name string, mode uint32, content io.Reader) error {
	piece := make([]byte, 64<<10)
	for more := false; ; more = true {
		n, err := io.ReadFull(content, piece)
		done := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !done {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		if n > 0 || !more {
			err = f.piece(name, mode, bytes.Clone(piece[:n]), more)
			if err != nil {
				return err
			}
		}
		if done {
			return nil
		}
	}
}

func (f *filler) piece(name string, mode uint32, content []byte, more bool) error {
	if f.size+len(content) > maxFill || len(f.files) == maxFillFiles {
		err := f.flush()
		if err != nil {
			return err
		}
	}
	f.files = append(f.files, &guestv1.VolumeFile{Path: name, Content: content, Mode: mode, Append: more})
	f.size += len(content)
	return nil
}

// flush hands over what was taken.
func (f *filler) flush() error {
	if len(f.files) == 0 {
		return nil
	}
	err := f.guest.FillVolume(f.ctx, f.source, f.files...)
	f.files, f.size = nil, 0
	return err
}
