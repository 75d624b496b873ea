// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cofferdam.dev/internal/attestsvc"
	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/store/open"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/verify/anchor"
)

// instanceEnv tells the test binary to be one instance of the service, and how: a process that can be killed.
const instanceEnv = "COFFERDAM_TEST_INSTANCE"

type instanceConfig struct {
	Name, Store, Root, Audit, Address string
}

// instance runs until it is killed, and returns the process's exit status.
func instance() int {
	if err := runInstance(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func runInstance(ctx context.Context) error {
	var c instanceConfig
	if err := json.Unmarshal([]byte(os.Getenv(instanceEnv)), &c); err != nil {
		return err
	}
	der, err := os.ReadFile(c.Root)
	if err != nil {
		return err
	}
	ark, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	root, err := anchor.NewRoot(anchor.Simulated, "test", ark)
	if err != nil {
		return err
	}
	st, err := open.URL(ctx, c.Store)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	log, err := audit.Open(c.Audit, audit.Options{Instance: c.Name, Key: key})
	if err != nil {
		return err
	}
	opts := serviceOptions(root, st, log)
	opts.RequireNonce = true
	svc, err := attestsvc.New(ctx, opts)
	if err != nil {
		return err
	}
	anybody := authenticator(func(*http.Request) (*auth.Identity, error) {
		return &auth.Identity{Method: "test", Roles: []auth.Role{RoleAdmin}}, nil
	})
	h, err := New(Options{Service: svc, Auth: anybody, Tenants: []string{"contoso"}})
	if err != nil {
		return err
	}
	srv, err := serve.New(ctx, serve.Options{Name: "attestation", Address: c.Address, Handler: h, Error: Error})
	if err != nil {
		return err
	}
	fmt.Println(srv.Addr()) // the parent waits for it
	return srv.Run(ctx)
}

// process is an instance of its own.
type process struct {
	cmd *exec.Cmd
	url string
}

func startProcess(t testing.TB, c instanceConfig) *process {
	t.Helper()
	c.Root, c.Audit = filepath.Join(t.TempDir(), "root.der"), filepath.Join(t.TempDir(), "audit")
	port, err := testcap.FreePort() // where nobody else answers once the instance is dead
	if err != nil {
		t.Fatal(err)
	}
	c.Address = fmt.Sprintf("127.0.0.1:%d", port)
	if err := os.WriteFile(c.Root, theWorld(t).root.Certificate.Raw, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), instanceEnv+"="+string(asJSON(t, c)))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd}
	t.Cleanup(p.kill)
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		p.kill()
		t.Fatalf("instance %s: %v: %s", c.Name, err, said.String())
	}
	p.url = "http://" + strings.TrimSpace(address)
	return p
}

// kill ends it without its doing.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have been killed before
	_ = p.cmd.Wait()         // killed
}

var client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// errStatus is an answer that is an error.
type errStatus struct {
	status int
	body   string
}

// Error implements error.
func (e *errStatus) Error() string { return fmt.Sprintf("status %d: %s", e.status, e.body) }

// send sends a request and decodes the answer.
func send(ctx context.Context, method, url string, body []byte) (map[string]any, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(string(body)))
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // read to its end
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, &errStatus{res.StatusCode, string(b)}
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, errors.Join(err, &errStatus{res.StatusCode, string(b)})
	}
	return m, nil
}
