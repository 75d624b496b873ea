// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/event"
	"cofferdam.dev/internal/sandbox/share"
)

// share serves a directory of this machine as a volume, until the machine ends.
func (s *supervisor) share(ctx context.Context, v *group.Volume) error {
	info, err := os.Stat(v.HostDir)
	if err == nil && !info.IsDir() {
		err = errors.New("it is no directory")
	}
	if err != nil {
		return fmt.Errorf("sharing %s: %w", v.HostDir, err)
	}
	readOnly := v.Share != nil && v.Share.ReadOnly
	conn, err := s.vm.Guest().ShareVolume(ctx, v.Source, readOnly)
	if err != nil {
		return err
	}
	s.notes.Go(func() {
		err := share.Serve(s.ctx, conn, v.HostDir, readOnly)
		if s.serving.Err() != nil {
			return // the group ends, and its shares with it
		}
		text := "the guest let go of it"
		if err != nil {
			text = err.Error()
		}
		s.log.Warn("a shared directory is served no more", slog.String("volume", v.Name), slog.Any("error", err))
		s.event("", event.VolumeFailed, event.Warning, "volume %s: %s is served no more: %s", v.Name, v.HostDir, text)
	})
	s.event("", event.VolumeReady, event.Normal, "Volume %s is %s of this machine, which its owner reads and changes", v.Name, v.HostDir)
	return nil
}
