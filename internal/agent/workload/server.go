// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"cofferdam.dev/attest"
	"cofferdam.dev/internal/agent/machine/mount"
	"cofferdam.dev/internal/evidencewire"
)

// Report gets a report that carries the report data.
type Report func(ctx context.Context, reportData [64]byte) (*attest.Result, error)

// Server keeps the directories of the containers. It lies in a filesystem of its own: a container that may open files by
// handle gets at nothing else.
type Server struct {
	// Root is an absolute path that nobody else writes to.
	Root string

	mu      sync.Mutex
	sockets map[string]*socket // by container
}

// filesystemSize bounds what lies in the directories: one policy, which all of them share.
const filesystemSize = "4m"

// Setup makes the filesystem.
func (s *Server) Setup() error {
	err := mount.FS{
		Type: "tmpfs", Source: "evidence",
		Options: []mount.Option{{Key: "mode", Value: "0755"}, {Key: "size", Value: filesystemSize}},
		Attr:    unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC,
	}.At(s.Root)
	if err != nil {
		return fmt.Errorf("making the filesystem of evidence sockets: %w", err)
	}
	return nil
}

// Open makes the directory of a container, with the policy's text and a socket that is answered with what report returns
// until Close. It returns the directory, and leaves nothing behind when it fails.
func (s *Server) Open(id string, policy []byte, report Report) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sockets[id] != nil {
		return "", fmt.Errorf("opening the evidence socket of %s: it is open", id)
	}
	dir := filepath.Join(s.Root, id)
	err := s.fill(dir, policy)
	var listener *net.UnixListener
	if err == nil {
		listener, err = listen(filepath.Join(dir, evidencewire.SocketName))
	}
	if err != nil {
		return "", fmt.Errorf("opening the evidence socket of %s: %w", id, errors.Join(err, os.RemoveAll(dir)))
	}
	if s.sockets == nil {
		s.sockets = map[string]*socket{}
	}
	s.sockets[id] = serve(listener, report)
	return dir, nil
}

// fill makes a container's directory with the policy's text in it, plain and in base64.
func (s *Server) fill(dir string, policy []byte) error {
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // containers' users look into it
		return err
	}
	for name, content := range map[string]func() []byte{
		evidencewire.PolicyName:       func() []byte { return policy },
		evidencewire.PolicyBase64Name: func() []byte { return base64.StdEncoding.AppendEncode(nil, policy) },
	} {
		shared := filepath.Join(s.Root, name)
		_, err := os.Lstat(shared)
		if errors.Is(err, fs.ErrNotExist) { // the policy is set once, so the first container's is everybody's
			err = os.WriteFile(shared, content(), 0o444) //nolint:gosec // any user of a container may read it
		}
		if err == nil {
			err = os.Link(shared, filepath.Join(dir, name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// listen makes a socket that any user may connect to: who gets as far as the directory may ask.
func listen(path string) (*net.UnixListener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err = os.Chmod(path, 0o666); err != nil { //nolint:gosec // see above
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Close ends a container's socket and removes its directory. It does not wait for a report that is being made. A container
// that has none is no error.
func (s *Server) Close(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.sockets[id]
	if o == nil {
		return nil
	}
	delete(s.sockets, id)
	o.end()
	err := os.RemoveAll(filepath.Join(s.Root, id))
	if err != nil {
		return fmt.Errorf("closing the evidence socket of %s: %w", id, err)
	}
	return nil
}
