// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/attest"
	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/evidencewire"
	"cofferdam.dev/internal/testcap"
)

func TestMain(m *testing.M) { os.Exit(testcap.NoLeaks(m)) }

var (
	idA = strings.Repeat("a", 64)
	idB = strings.Repeat("b", 64)
)

const policyText = "package policy\n"

// report is what an honest processor answers.
func report(_ context.Context, data [64]byte) (*attest.Result, error) {
	r := &snp.Report{Version: 3, ReportData: data}
	return &attest.Result{Type: attest.TypeSEVSNP, Report: r.Marshal(), Certificates: table()}, nil
}

func table() []byte {
	b, err := snp.MarshalCertificateTable([]snp.CertificateEntry{{GUID: snp.GUIDVCEK, Data: []byte("leaf")}, {GUID: snp.GUID{1}, Data: []byte("list")}})
	if err != nil {
		panic(err)
	}
	return b
}

// newServer returns a server whose sockets' paths are short enough for the kernel.
func newServer(t *testing.T) *Server {
	t.Helper()
	root, err := os.MkdirTemp("", "w")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	return &Server{Root: root}
}

func open(t *testing.T, s *Server, id string, r Report) string {
	t.Helper()
	dir, err := s.Open(id, []byte(policyText), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(id) })
	return dir
}

func dial(t *testing.T, dir string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", filepath.Join(dir, evidencewire.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ask sends bytes and returns what comes back.
func ask(t *testing.T, dir, text string) []byte {
	t.Helper()
	c := dial(t, dir)
	_, _ = io.WriteString(c, text) // the other end may have had enough
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Minute))
	b, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Fatal(err)
	}
	return b
}

const request = `{"nonce":"AAECAwQFBgc=","runtimeData":"a2V5"}` + "\n"

func TestDocument(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	d, err := evidencewire.ParseDocument(ask(t, open(t, s, idA, report), request))
	if err != nil {
		t.Fatal(err)
	}
	r, err := snp.ParseReport(d.Report)
	if err != nil {
		t.Fatal(err)
	}
	nonce := []byte{0, 1, 2, 3, 4, 5, 6, 7}
	if r.ReportData != evidence.ReportData(evidence.SourceWorkload, nonce, []byte("key")) {
		t.Errorf("report data is %x", r.ReportData)
	}
	if d.Source != evidence.SourceWorkload || !bytes.Equal(d.Nonce, nonce) || string(d.RuntimeData) != "key" ||
		len(d.Certificates) != 1 || string(d.Certificates[0]) != "leaf" {
		t.Errorf("document is %+v", d)
	}
}

func TestReportDataAsTheyAre(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	want := [64]byte{9, 63: 8}
	got, err := evidencewire.ParseReport(ask(t, open(t, s, idA, report), fmt.Sprintf(`{"reportData":%q}`+"\n", base64.StdEncoding.EncodeToString(want[:]))))
	if err != nil {
		t.Fatal(err)
	}
	r, err := snp.ParseReport(got.Report)
	if err != nil || r.ReportData != want || !bytes.Equal(got.Certificates, table()) {
		t.Errorf("report data is %x, certificates %x, %v", r.ReportData, got.Certificates, err)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	good := open(t, s, idA, report)
	bad := open(t, s, idB, func(_ context.Context, data [64]byte) (*attest.Result, error) {
		if data == [64]byte{} {
			return &attest.Result{Type: attest.TypeSEVSNP, Report: make([]byte, evidencewire.MaxAnswer)}, nil
		}
		return nil, errors.New("no processor")
	})
	lying := open(t, s, strings.Repeat("c", 64), func(context.Context, [64]byte) (*attest.Result, error) {
		return &attest.Result{Type: attest.TypeSEVSNP, Report: []byte{1}, Certificates: []byte("no table")}, nil
	})
	for name, c := range map[string]struct{ dir, text, code string }{
		"no JSON":             {good, "hello\n", evidencewire.CodeBadRequest},
		"empty line":          {good, "\n", evidencewire.CodeBadRequest},
		"too long":            {good, strings.Repeat("x", evidencewire.MaxRequest+1), evidencewire.CodeBadRequest},
		"the host's mark":     {good, `{"nonce":"AAECAwQFBgc=","source":"host"}` + "\n", evidencewire.CodeBadRequest},
		"no report":           {bad, request, evidencewire.CodeFailed},
		"report too large":    {bad, `{"reportData":"` + strings.Repeat("AAAA", 21) + `AA=="}` + "\n", evidencewire.CodeFailed},
		"hostile certificate": {lying, request, evidencewire.CodeFailed},
	} {
		_, err := evidencewire.ParseDocument(ask(t, c.dir, c.text))
		var e *evidencewire.Error
		if !errors.As(err, &e) || e.Code != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
	half := dial(t, good)
	_, _ = io.WriteString(half, `{"nonce":`)
	_ = half.(*net.UnixConn).CloseWrite()
	if b, err := io.ReadAll(half); err != nil || len(b) != 0 {
		t.Errorf("half a request is answered with %q, %v", b, err)
	}
}

// TestDirectory looks at what a container sees, and that closing leaves nothing.
func TestDirectory(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := open(t, s, idA, report), open(t, s, idB, report)
	if _, err := s.Open(idA, nil, report); err == nil {
		t.Error("a socket is opened twice")
	}
	var inodes []uint64
	for _, dir := range []string{a, b} {
		text, err := os.ReadFile(filepath.Join(dir, evidencewire.PolicyName))
		if err != nil || string(text) != policyText {
			t.Errorf("policy is %q, %v", text, err)
		}
		encoded, err := os.ReadFile(filepath.Join(dir, evidencewire.PolicyBase64Name))
		if err != nil || string(encoded) != base64.StdEncoding.EncodeToString([]byte(policyText)) {
			t.Errorf("policy in base64 is %q, %v", encoded, err)
		}
		var st unix.Stat_t
		if err = unix.Stat(filepath.Join(dir, evidencewire.PolicyName), &st); err != nil || st.Mode&0o777 != 0o444 {
			t.Errorf("policy has mode %o, %v", st.Mode, err)
		}
		inodes = append(inodes, st.Ino)
		if err = unix.Stat(filepath.Join(dir, evidencewire.SocketName), &st); err != nil || st.Mode&0o777 != 0o666 {
			t.Errorf("socket has mode %o, %v", st.Mode, err)
		}
	}
	if inodes[0] != inodes[1] {
		t.Error("each container has a policy of its own, which takes memory")
	}
	for range 2 {
		if err := s.Close(idA); err != nil {
			t.Error(err)
		}
	}
	left, err := os.ReadDir(s.Root)
	if err != nil || len(left) != 3 {
		t.Errorf("left are %v, %v; want the policy, twice, and the other container's directory", left, err)
	}
	if _, err = evidencewire.ParseDocument(ask(t, b, request)); err != nil {
		t.Errorf("closing one socket closed another: %v", err)
	}
}

func TestCloseEndsConnections(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := dial(t, open(t, s, idA, report))
	time.Sleep(50 * time.Millisecond) // accepted by now, most likely; waiting in the kernel is as well
	if err := s.Close(idA); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Minute))
	_, err := c.Read(make([]byte, 1))
	if err == nil || os.IsTimeout(err) {
		t.Errorf("reading from a closed socket: %v", err)
	}
}

// TestFloodHoldsUpNobodyElse has one container ask on as many connections as it can get. It never has more than one report
// under way, so another container, and the host, waits for one of its reports at most.
func TestFloodHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var processor sync.Mutex // as the agent has it
	var waiting, most atomic.Int32
	slow := func(ctx context.Context, data [64]byte) (*attest.Result, error) {
		most.Store(max(most.Load(), waiting.Add(1)))
		defer waiting.Add(-1)
		processor.Lock()
		defer processor.Unlock()
		time.Sleep(20 * time.Millisecond)
		return report(ctx, data)
	}
	flooding := open(t, s, idA, slow)
	var flood sync.WaitGroup
	for range 20 {
		flood.Go(func() {
			c, err := net.Dial("unix", filepath.Join(flooding, evidencewire.SocketName))
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, request)
			_, _ = io.ReadAll(c)
			_ = c.Close()
		})
	}
	other := open(t, s, idB, report)
	began, host := time.Now(), 0
	for range 3 {
		if _, err := evidencewire.ParseDocument(ask(t, other, request)); err != nil {
			t.Error(err)
		}
		processor.Lock() // as the host's request does
		host++
		processor.Unlock()
	}
	t.Logf("%d requests of another container and of the host beside the flood took %v", host, time.Since(began))
	flood.Wait()
	if n := most.Load(); n != 1 {
		t.Errorf("the flood had %d reports under way at once, want 1", n)
	}
}

// TestIdleConnectionsAreFew holds connections without a word: only so many are taken, and they do not hold up others'.
func TestIdleConnectionsAreFew(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	idle := open(t, s, idA, report)
	for range 3 * maxConnections {
		dial(t, idle)
	}
	time.Sleep(3 * maxConnections * pace)
	s.mu.Lock()
	n := len(s.sockets[idA].slots)
	s.mu.Unlock()
	if n > maxConnections {
		t.Errorf("%d connections are open, at most %d may be", n, maxConnections)
	}
	if _, err := evidencewire.ParseDocument(ask(t, open(t, s, idB, report), request)); err != nil {
		t.Error(err)
	}
}

// TestSetup keeps the sockets apart from the agent's files, and any user may ask through a read-only mount. It runs in a
// mount namespace of its own, on a thread that ends with it.
func TestSetup(t *testing.T) {
	testcap.Require(t, testcap.Root)
	dir, err := os.MkdirTemp("", "w")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	s := &Server{Root: filepath.Join(dir, "e")}
	mounted := filepath.Join(dir, "container")
	var fs unix.Statfs_t
	var answer []byte
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		done <- func() error {
			err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
			if err == nil {
				err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
			}
			if err == nil {
				err = s.Setup()
			}
			if err != nil {
				return err
			}
			source, err := s.Open(idA, []byte(policyText), report)
			if err != nil {
				return err
			}
			err = errors.Join(os.Mkdir(mounted, 0o755), os.Chmod(dir, 0o755), unix.Statfs(source, &fs),
				unix.Mount(source, mounted, "", unix.MS_BIND, ""),
				unix.Mount("", mounted, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
			if err != nil {
				return err
			}
			if err = os.Remove(filepath.Join(mounted, evidencewire.SocketName)); !errors.Is(err, unix.EROFS) {
				return fmt.Errorf("a container that removes the socket gets %w", err)
			}
			answer, err = askAs(65534, filepath.Join(mounted, evidencewire.SocketName))
			return err
		}()
	}()
	err = <-done
	if err = errors.Join(err, s.Close(idA)); err != nil {
		t.Fatal(err)
	}
	const want = unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC
	if fs.Type != unix.TMPFS_MAGIC || fs.Flags&want != want || fs.Blocks*uint64(fs.Bsize) > 4<<20 {
		t.Errorf("the sockets lie on a filesystem of type %#x with %d blocks, flags %#x", fs.Type, fs.Blocks, fs.Flags)
	}
	if _, err = evidencewire.ParseDocument(answer); err != nil {
		t.Errorf("nobody gets %q: %v", answer, err)
	}
}

// askAs asks on the calling thread, which becomes another user for good.
func askAs(user int, path string) ([]byte, error) {
	_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(user), uintptr(user), uintptr(user))
	if errno != 0 {
		return nil, errno
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	if err = unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return nil, err
	}
	if _, err = unix.Write(fd, []byte(request)); err != nil {
		return nil, err
	}
	var all []byte
	for b := make([]byte, 1<<16); ; {
		n, err := unix.Read(fd, b)
		if n <= 0 {
			return all, err
		}
		all = append(all, b[:n]...)
	}
}
