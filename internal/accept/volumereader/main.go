// SPDX-License-Identifier: Apache-2.0

// Command volumereader runs in a privileged container of a benchmark's group. It opens the same data in each of the ways that
// a guest has, through the volumes' formats in a process of ours, or through the kernel's own drivers over what is encrypted,
// and reads one of them from beginning to end when somebody asks on its port.
//
// It trusts whoever asks, and is for benchmarks alone: its keys are known.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// address is where it is asked.
const address = ":9000"

func main() {
	fmt.Fprintln(os.Stderr, "volumereader:", run(context.Background()))
	os.Exit(1)
}

// run opens the data, and answers until that fails.
func run(ctx context.Context) error {
	ways, err := open(ctx)
	if err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		answer(c, ways)
	}
}

// answer reads the name of a way, reads all that it leads to, and says how many bytes that were.
func answer(c net.Conn, ways map[string]*way) {
	defer func() { _ = c.Close() }() // the answer is written
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return
	}
	w := ways[strings.TrimSpace(line)]
	if w == nil {
		_, _ = fmt.Fprintln(c, "there is no such way") // whoever asked fails without it
		return
	}
	n, err := w.read()
	if err != nil {
		_, _ = fmt.Fprintln(c, err)
		return
	}
	_, _ = fmt.Fprintln(c, n)
}

// way is one way to the data: a device, and the file in FUSE below it.
type way struct{ device, below string }

// pieceSize is how much is read at a time, in bytes.
const pieceSize = 1 << 20

// read reads all of the device, with nothing of it in memory before.
func (w *way) read() (int64, error) {
	for _, name := range []string{w.device, w.below} {
		err := forget(name)
		if err != nil {
			return 0, err
		}
	}
	f, err := os.Open(w.device)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // it was only read
	p := make([]byte, pieceSize)
	for all := int64(0); ; {
		n, err := f.Read(p)
		all += int64(n)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, fmt.Errorf("reading %s: %w", w.device, err)
		}
	}
}

// forget drops what the kernel has of a file or a device in its cache.
func forget(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	err = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	_ = f.Close() // it was not written
	if err != nil {
		return fmt.Errorf("forgetting %s: %w", name, err)
	}
	return nil
}
