// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"cofferdam.dev/internal/agent/machine/mount"
	"cofferdam.dev/internal/agent/share"
)

// SharePattern is the form of the volumes that Share takes.
const SharePattern = `/tmp/atlas/azureFileVolume` + namePattern

// MayBeShared reports whether a mount's source is a volume that the host may serve.
func MayBeShared(source string) bool { return strings.HasPrefix(source, shareDir) }

// maxShares bounds the directories that the host serves.
const maxShares = 32

// stuckTime is how long a killed process may wait before shares are suspected of holding it.
const stuckTime = 5 * time.Second

// ErrExists says that containers have the volume already.
var ErrExists = errors.New("the volume exists already")

// ErrShared says that the host serves the volume already.
var ErrShared = errors.New("the host serves the volume already")

// Share is a volume that the host serves. It is a share.Share.
type Share interface {
	// Serve carries messages until either side ends; it owns the connection.
	Serve(c net.Conn)
	Close()
}

// Share makes a new volume a directory that the host serves. A volume whose service has ended can be shared again, for
// containers that mount it from then on.
func (v *Volumes) Share(source string, readOnly bool) (Share, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	old, again := v.shares[source]
	switch {
	case again && !old.Ended():
		return nil, ErrShared
	case !again && v.known[source]:
		return nil, ErrExists
	case !again && len(v.shares) >= maxShares:
		return nil, fmt.Errorf("the host serves %d volumes already", maxShares)
	case again:
		err := mount.Detach(v.Path(source)) // what containers have of it stays with them
		if err != nil {
			return nil, err
		}
		delete(v.shares, source)
	}
	err := v.ensure("", Mount{Source: source})
	if err != nil {
		return nil, err
	}
	s, err := share.Mount(v.Path(source), readOnly)
	if err != nil {
		delete(v.known, source) // it is an empty directory, which the next attempt finds
		return nil, fmt.Errorf("sharing the volume %s: %w", source, err)
	}
	if v.shares == nil {
		v.shares = map[string]*share.Share{}
	}
	v.shares[source] = s
	return s, nil
}

// served returns what the host serves.
func (v *Volumes) served() []*share.Share {
	v.mu.Lock()
	defer v.mu.Unlock()
	var list []*share.Share
	for _, s := range v.shares {
		list = append(list, s)
	}
	return list
}

// freeStuck ends the service of volumes whose host has owed an answer for longer than that.
func (v *Volumes) freeStuck(owed time.Duration) {
	for _, s := range v.served() {
		s.CloseIfStuck(owed)
	}
}

// CloseShares ends the service of all volumes, and takes them out of sight: nobody waits for the host after that.
func (v *Volumes) CloseShares() error {
	for _, s := range v.served() {
		s.Close()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	var errs []error
	for source := range v.shares {
		errs = append(errs, mount.Detach(v.Path(source)))
		delete(v.shares, source)
	}
	return errors.Join(errs...)
}
