// SPDX-License-Identifier: Apache-2.0

package share

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/testcap"
)

func TestMain(m *testing.M) { os.Exit(testcap.NoLeaks(m)) }

// forever is longer than any test takes.
const forever = time.Hour

// fakeDevice is a kernel that asks what is sent to it and records the answers.
type fakeDevice struct {
	ask    chan []byte
	closed chan struct{}
	once   sync.Once

	mu      sync.Mutex
	answers [][]byte
	err     error
}

func newDevice() *fakeDevice {
	return &fakeDevice{ask: make(chan []byte), closed: make(chan struct{})}
}

func (d *fakeDevice) Read(b []byte) (int, error) {
	select {
	case m := <-d.ask:
		if m == nil {
			return 0, unix.ENOENT
		}
		return copy(b, m), nil
	case <-d.closed:
		return 0, os.ErrClosed
	}
}

func (d *fakeDevice) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answers = append(d.answers, bytes.Clone(b))
	return len(b), d.err
}

func (d *fakeDevice) Close() error {
	d.once.Do(func() { close(d.closed) })
	return nil
}

func (d *fakeDevice) got() [][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.answers
}

// answered waits until the kernel has had so many answers.
func (d *fakeDevice) answered(n int) [][]byte {
	for end := time.Now().Add(2 * time.Minute); len(d.got()) < n && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	return d.got()
}

func request(operation uint32, unique uint64, body ...byte) []byte {
	m := make([]byte, requestHeader, requestHeader+len(body))
	m = append(m, body...)
	binary.NativeEndian.PutUint32(m, uint32(len(m)))
	binary.NativeEndian.PutUint32(m[4:], operation)
	binary.NativeEndian.PutUint64(m[8:], unique)
	return m
}

func answer(unique uint64, body ...byte) []byte {
	m := make([]byte, answerHeader, answerHeader+len(body))
	m = append(m, body...)
	binary.NativeEndian.PutUint32(m, uint32(len(m)))
	binary.NativeEndian.PutUint64(m[8:], unique)
	return m
}

// served is a share with the host's end of its stream.
func served(t *testing.T, limit time.Duration) (*Share, *fakeDevice, net.Conn) {
	t.Helper()
	d := newDevice()
	s := start(d, limit)
	guest, host := net.Pipe()
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.Serve(guest)
	}()
	t.Cleanup(func() {
		_ = host.Close()
		<-over
		<-d.closed
		if !s.Ended() {
			t.Error("the share has not ended")
		}
	})
	return s, d, host
}

// asks has the kernel ask, and returns what the host gets.
func asks(t *testing.T, d *fakeDevice, host net.Conn, m []byte) {
	t.Helper()
	select {
	case d.ask <- m:
	case <-d.closed:
		t.Fatal("the share has ended")
	}
	got := make([]byte, len(m))
	_, err := io.ReadFull(host, got)
	if err != nil || !bytes.Equal(got, m) {
		t.Fatalf("the host got %x, %v, want %x", got, err, m)
	}
}

func TestRelay(t *testing.T) {
	t.Parallel()
	s, d, host := served(t, forever)
	d.ask <- nil // a request that was given up
	asks(t, d, host, request(3, 10, 1, 2, 3))
	asks(t, d, host, request(opForget, 12, 1))
	asks(t, d, host, request(15, 14))
	d.err = unix.ENOENT                       // nobody waits for it any more
	for _, unique := range []uint64{14, 10} { // in any order
		_, err := host.Write(answer(unique, make([]byte, maxData)...))
		if err != nil {
			t.Fatal(err)
		}
	}
	asks(t, d, host, request(3, 16))
	// The host's last byte was read, which is not yet the kernel's last answer.
	got := d.answered(2)
	if len(got) != 2 || len(got[0]) != answerHeader+maxData || binary.NativeEndian.Uint64(got[1][8:]) != 10 {
		t.Errorf("the kernel got %d answers", len(got))
	}
	if owed := s.owed(); len(owed) != 1 || owed[0] != 16 {
		t.Errorf("answers are owed to %v, want 16 alone", owed)
	}
}

// owed are the questions that have no answer yet.
func (s *Share) owed() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.waiting))
}

func TestInitIsNarrowed(t *testing.T) {
	t.Parallel()
	_, d, host := served(t, forever)
	asks(t, d, host, request(opInit, 2))
	m := answer(2, bytes.Repeat([]byte{0xff}, initAnswer)...)
	binary.NativeEndian.PutUint32(m[answerHeader:], 7)
	_, err := host.Write(m)
	if err != nil {
		t.Fatal(err)
	}
	asks(t, d, host, request(3, 4))
	got := d.answered(1)[0][answerHeader:] // the order of questions and answers is nobody's
	ne := binary.NativeEndian
	if ne.Uint32(got[8:]) != maxData || ne.Uint32(got[12:]) != allowedFeatures || ne.Uint32(got[16:]) != 0 || ne.Uint32(got[20:]) != maxData ||
		ne.Uint16(got[28:]) != 32 || !bytes.Equal(got[30:], make([]byte, 34)) {
		t.Errorf("the kernel got % x", got)
	}
}

// TestWrongMessagesEndTheShare sends what the protocol does not have. Nothing of it reaches the kernel.
func TestWrongMessagesEndTheShare(t *testing.T) {
	t.Parallel()
	long := answer(10)
	binary.NativeEndian.PutUint32(long, maxMessage+1)
	short := answer(10)
	binary.NativeEndian.PutUint32(short, answerHeader-1)
	refused := answer(2, make([]byte, initAnswer)...)
	binary.NativeEndian.PutUint32(refused[4:], 0xffffffff)
	old := answer(2, make([]byte, initAnswer)...)
	binary.NativeEndian.PutUint32(old[answerHeader:], 6)
	tests := map[string][]byte{
		"too long": long, "too short": short, "answer to nothing": answer(99), "notification": answer(0, 1, 2, 3),
		"negotiation cut short": answer(2, make([]byte, initAnswer-1)...), "negotiation refused": refused, "another version": old,
		"cut off": answer(10, 1, 2, 3)[:answerHeader+1], "the end": {},
	}
	for name, m := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, d, host := served(t, forever)
			asks(t, d, host, request(opInit, 2))
			asks(t, d, host, request(3, 10))
			_, err := host.Write(m)
			if err != nil {
				t.Fatal(err)
			}
			if name == "cut off" || name == "the end" {
				_ = host.Close()
			}
			<-d.closed // at once, and not because of the limit
			if len(d.got()) != 0 || !s.Ended() {
				t.Errorf("the kernel got %x", d.got())
			}
		})
	}
}

// TestAnswerTwice answers one question twice: the kernel hears it once.
func TestAnswerTwice(t *testing.T) {
	t.Parallel()
	_, d, host := served(t, forever)
	asks(t, d, host, request(3, 10))
	for range 2 {
		_, err := host.Write(answer(10))
		if err != nil {
			t.Fatal(err)
		}
	}
	<-d.closed
	if len(d.got()) != 1 {
		t.Errorf("the kernel got %x", d.got())
	}
}

func TestWrongRequestsEndTheShare(t *testing.T) {
	t.Parallel()
	for name, m := range map[string][]byte{"short": request(3, 10)[:20], "another length": append(request(3, 10), 0)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, d, host := served(t, forever)
			d.ask <- m
			<-d.closed
			b, err := io.ReadAll(host)
			if err != nil || len(b) != 0 {
				t.Errorf("the host got %x, %v", b, err)
			}
		})
	}
}

// TestKernelRefusesAnAnswer ends the share: the host sends what the kernel can not read.
func TestKernelRefusesAnAnswer(t *testing.T) {
	t.Parallel()
	_, d, host := served(t, forever)
	d.err = unix.EINVAL
	asks(t, d, host, request(3, 10))
	_, err := host.Write(answer(10))
	if err != nil {
		t.Fatal(err)
	}
	<-d.closed
}

// TestSlowHosts ends shares whose host does not open the stream, does not answer, stops in the middle of an answer, or takes no
// requests.
func TestSlowHosts(t *testing.T) {
	t.Parallel()
	const limit = 5 * time.Second // the host's part before it falls silent is done sooner
	t.Run("never opens", func(t *testing.T) {
		t.Parallel()
		d := newDevice()
		s := start(d, limit)
		<-d.closed
		guest, host := net.Pipe()
		s.Serve(guest) // too late
		_, err := host.Read(make([]byte, 1))
		if !errors.Is(err, io.EOF) {
			t.Errorf("reading the late stream: %v, want its end", err)
		}
	})
	t.Run("never answers", func(t *testing.T) {
		t.Parallel()
		_, d, host := served(t, limit)
		asks(t, d, host, request(3, 10))
		<-d.closed
	})
	t.Run("answers half", func(t *testing.T) {
		t.Parallel()
		_, d, host := served(t, limit)
		asks(t, d, host, request(3, 10))
		_, err := host.Write(answer(10, 1, 2, 3)[:answerHeader+2])
		if err != nil {
			t.Fatal(err)
		}
		<-d.closed
	})
	t.Run("takes no requests", func(t *testing.T) {
		t.Parallel()
		_, d, _ := served(t, limit)
		d.ask <- request(3, 10)
		<-d.closed
	})
}

func TestCloseIfStuck(t *testing.T) {
	t.Parallel()
	s, d, host := served(t, forever)
	asks(t, d, host, request(opForget, 8))
	s.CloseIfStuck(0)
	if s.Ended() {
		t.Fatal("a share that is owed nothing was closed")
	}
	asks(t, d, host, request(3, 10))
	s.CloseIfStuck(forever)
	if s.Ended() {
		t.Fatal("a share was closed too early")
	}
	time.Sleep(2 * time.Millisecond)
	s.CloseIfStuck(time.Millisecond)
	<-d.closed
}

// FuzzAnswers sends bytes of any content in answer to a few questions. What reaches the kernel is whole, and answers one of
// them that was not answered.
func FuzzAnswers(f *testing.F) {
	f.Add(append(answer(10, 1, 2, 3), answer(12)...))
	f.Add(append(answer(2, make([]byte, initAnswer)...), answer(0, 1)...))
	f.Add([]byte{16, 0, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		d := newDevice()
		s := &Share{dev: d, done: make(chan struct{}), waiting: map[uint64]time.Time{}}
		s.ask(opInit, 2)
		s.ask(3, 10)
		s.ask(15, 12)
		_ = s.answers(bytes.NewReader(in))
		open := map[uint64]bool{2: true, 10: true, 12: true}
		for _, m := range d.got() {
			if len(m) < answerHeader || int(binary.NativeEndian.Uint32(m)) != len(m) || len(m) > maxMessage {
				t.Fatalf("the kernel got % x", m)
			}
			unique := binary.NativeEndian.Uint64(m[8:])
			if !open[unique] {
				t.Fatalf("the kernel got an answer to %d", unique)
			}
			delete(open, unique)
			if unique == 2 && binary.NativeEndian.Uint32(m[answerHeader+12:])&^uint32(allowedFeatures) != 0 {
				t.Fatalf("the kernel got features % x", m)
			}
		}
	})
}
