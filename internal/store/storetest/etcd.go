// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"cofferdam.dev/internal/testcap"
)

// Server is a real etcd server of a test.
type Server struct {
	// Endpoint is where clients find it.
	Endpoint string

	args []string
	cmd  *exec.Cmd
}

// StartEtcd starts an etcd server, which ends with the test.
func StartEtcd(t testing.TB) *Server {
	t.Helper()
	testcap.Require(t, testcap.Etcd)
	dir := t.TempDir()
	client, peer := "http://"+freeAddress(t), "http://"+freeAddress(t)
	s := &Server{Endpoint: client, args: []string{
		"--data-dir", filepath.Join(dir, "data"), "--log-level", "error",
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default=" + peer,
	}}
	t.Cleanup(func() { s.Kill(t) })
	s.Start(t)
	return s
}

// Start starts the server on what it stored before.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	s.cmd = exec.Command("etcd", s.args...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := s.Client(t)
	defer func() { _ = c.Close() }() // used for one question
	deadline := time.Now().Add(2 * time.Minute)
	for {
		_, err := c.Get(t.Context(), "x")
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("etcd does not answer: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Kill ends the server at once, without its doing.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may have ended already
	_ = s.cmd.Wait()         // killed
	s.cmd = nil
}

// Client returns a client of the server, which the caller closes.
func (s *Server) Client(t testing.TB) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.Endpoint}, DialTimeout: time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func freeAddress(t testing.TB) string {
	t.Helper()
	port, err := testcap.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}
