// SPDX-License-Identifier: Apache-2.0

package sandboxtest

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	guestv1 "cofferdam.dev/api/guest/v1"
)

// The calls that groups of several containers need.

// VolumesWord begins a word of the kernel command line that names a directory: the played guest keeps what its volumes are
// filled with there, each in a directory of its name.
const VolumesWord = "fake.volumes="

const (
	maxFill      = 1 << 20
	classPattern = "sandbox:///tmp/atlas/"
	terminations = classPattern + "terminationLog/"
)

func (g *guest) ConfigureNetwork(ctx context.Context, _ *guestv1.ConfigureNetworkRequest) (*guestv1.ConfigureNetworkResponse, error) {
	const call = "ConfigureNetwork"
	err := g.ready(ctx, call)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.networked || len(g.procs) > 0 {
		return nil, deny(guestv1.CodeWrongState, call, "the network was configured, or a container created, before")
	}
	g.networked = true
	return &guestv1.ConfigureNetworkResponse{}, nil
}

// volumes is the directory that stands for all volumes, empty for none.
func (m *machine) volumes() string {
	for _, w := range strings.Fields(m.append) {
		if dir, ok := strings.CutPrefix(w, VolumesWord); ok {
			return dir
		}
	}
	return ""
}

func (g *guest) FillVolume(ctx context.Context, r *guestv1.FillVolumeRequest) (*guestv1.FillVolumeResponse, error) {
	const call = "FillVolume"
	err := g.ready(ctx, call)
	if err != nil {
		return nil, err
	}
	class, name, _ := strings.Cut(strings.TrimPrefix(r.GetSource(), classPattern), "/")
	if class != "secretsVolume" && class != "gitRepoVolume" {
		return nil, deny(guestv1.CodeBadRequest, call, "a volume of class "+class+" is not filled by the host")
	}
	size := 0
	for _, f := range r.GetFiles() {
		size += len(f.GetContent())
		if path.IsAbs(f.GetPath()) || path.Clean(f.GetPath()) != f.GetPath() {
			return nil, deny(guestv1.CodeBadRequest, call, "the path is not relative and clean")
		}
	}
	if size > maxFill || len(r.GetFiles()) > 1024 {
		return nil, deny(guestv1.CodeBadRequest, call, fmt.Sprintf("%d bytes in %d files", size, len(r.GetFiles())))
	}
	for _, f := range r.GetFiles() {
		err = g.keep(name, f)
		if err != nil {
			return nil, deny(guestv1.CodeFailed, call, err.Error())
		}
	}
	return &guestv1.FillVolumeResponse{}, nil
}

func (g *guest) keep(volume string, f *guestv1.VolumeFile) error {
	dir := g.m.volumes()
	if dir == "" {
		return nil
	}
	to := filepath.Join(dir, volume, f.GetPath())
	err := os.MkdirAll(filepath.Dir(to), 0o700)
	if err != nil {
		return err
	}
	how := os.O_CREATE | os.O_WRONLY | os.O_EXCL
	if f.GetAppend() {
		how = os.O_APPEND | os.O_WRONLY
	}
	file, err := os.OpenFile(to, how, os.FileMode(f.GetMode())|0o600)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	_, err = file.Write(f.GetContent())
	return err
}

// ShareVolume opens the share as a kernel would, and keeps the answer's error number and the length of its body in a file
// of the volume's name.
func (g *guest) ShareVolume(ctx context.Context, r *guestv1.ShareVolumeRequest) (*guestv1.ShareVolumeResponse, error) {
	const call = "ShareVolume"
	err := g.ready(ctx, call)
	if err != nil {
		return nil, err
	}
	name, ok := strings.CutPrefix(r.GetSource(), classPattern+"azureFileVolume/")
	if !ok {
		return nil, deny(guestv1.CodeBadRequest, call, "the volume is of another class")
	}
	token, err := g.broker.Grant(func(c net.Conn) {
		_, _ = c.Write(fuseInit())
		answer := make([]byte, 16)
		_, err := io.ReadFull(c, answer)
		if err == nil && g.m.volumes() != "" {
			text := fmt.Sprintf("%d %d", int32(binary.NativeEndian.Uint32(answer[4:])), binary.NativeEndian.Uint32(answer)-16)
			_ = os.WriteFile(filepath.Join(g.m.volumes(), name), []byte(text), 0o600)
		}
		_, _ = io.Copy(io.Discard, c) // until the host lets go
		_ = c.Close()
	})
	if err != nil {
		return nil, deny(guestv1.CodeFailed, call, err.Error())
	}
	return &guestv1.ShareVolumeResponse{Token: token}, nil
}

// fuseInit is the first message of a kernel that speaks version 7.41 of the FUSE protocol: a header of 40 bytes and 64 more.
func fuseInit() []byte {
	const init = 26
	m := make([]byte, 104)
	binary.NativeEndian.PutUint32(m, uint32(len(m)))
	binary.NativeEndian.PutUint32(m[4:], init)
	binary.NativeEndian.PutUint64(m[8:], 1)
	binary.NativeEndian.PutUint32(m[40:], 7)
	binary.NativeEndian.PutUint32(m[44:], 41)
	binary.NativeEndian.PutUint32(m[48:], 1<<20)
	binary.NativeEndian.PutUint32(m[52:], 0xffffffff)
	return m
}

// Probe asks the host's own loopback address, where the containers' processes are.
func (g *guest) Probe(ctx context.Context, r *guestv1.ProbeRequest) (*guestv1.ProbeResponse, error) {
	err := g.ready(ctx, "Probe")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(r.GetTimeoutMs())*time.Millisecond)
	defer cancel()
	address := fmt.Sprintf("127.0.0.1:%d", r.GetPort())
	if r.GetHttp() == nil {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return &guestv1.ProbeResponse{Reason: "connection refused"}, nil
		}
		_ = conn.Close()
		return &guestv1.ProbeResponse{Success: true}, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+r.GetHttp().GetPath(), nil)
	if err != nil {
		return nil, deny(guestv1.CodeBadRequest, "Probe", err.Error())
	}
	for _, h := range r.GetHttp().GetHeaders() {
		req.Header.Add(h.GetName(), h.GetValue())
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return &guestv1.ProbeResponse{Reason: "no answer"}, nil
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	a := &guestv1.ProbeResponse{Success: resp.StatusCode >= 200 && resp.StatusCode < 400, Status: uint32(resp.StatusCode)}
	if !a.Success {
		a.Reason = fmt.Sprintf("status %d", resp.StatusCode)
	}
	return a, nil
}

// TerminationMessage reads the file of the host that the container has its termination log at.
func (g *guest) TerminationMessage(ctx context.Context, r *guestv1.TerminationMessageRequest) (*guestv1.TerminationMessageResponse, error) {
	err := g.ready(ctx, "TerminationMessage")
	if err != nil {
		return nil, err
	}
	p := g.find(r.GetContainerId(), "")
	if p == nil {
		return nil, deny(guestv1.CodeNotFound, "TerminationMessage", "no such container")
	}
	if p.message == "" {
		return nil, deny(guestv1.CodeNotFound, "TerminationMessage", "the container has no termination log")
	}
	text, _ := os.ReadFile(p.message) // one that is not there says nothing
	return &guestv1.TerminationMessageResponse{Message: text[max(0, len(text)-4096):]}, nil
}

func terminationLog(mounts []*guestv1.Mount) string {
	for _, m := range mounts {
		if strings.HasPrefix(m.GetSource(), terminations) {
			return m.GetDestination()
		}
	}
	return ""
}
