// SPDX-License-Identifier: Apache-2.0

package recording

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"cofferdam.dev/policy/replay"
)

// MaxSize bounds a recording's file, in bytes.
const MaxSize = 64 << 20

// ErrFull says that a recording has reached its bounds: MaxSize, or the steps that can be replayed.
var ErrFull = errors.New("the recording is full")

// Writer appends to a recording. Its methods may be called at the same time.
//
// Once a step could not be written nothing is: a recording with a hole in it would replay differently from what was.
type Writer struct {
	max int64

	mu    sync.Mutex
	f     *os.File
	size  int64
	steps int
	err   error
}

// Create makes the file of a recording, which must not exist, for its owner alone.
func Create(path string) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("making the recording: %w", err)
	}
	return &Writer{max: MaxSize, f: f}, nil
}

// Append writes one step as a line. It tells of an error once; from then on nothing is written.
func (w *Writer) Append(s replay.Step) error {
	line, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("recording a request: %w", err)
	}
	line = append(line, '\n')
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return nil
	}
	if w.size+int64(len(line)) > w.max || w.steps >= replay.MaxSteps {
		w.err = ErrFull
		return fmt.Errorf("recording a request: %w after %d requests and %d bytes", ErrFull, w.steps, w.size)
	}
	_, err = w.f.Write(line)
	if err != nil {
		w.err = err
		return errors.Join(fmt.Errorf("recording a request: %w", err), w.f.Truncate(w.size)) // no half lines
	}
	w.size += int64(len(line))
	w.steps++
	return nil
}

// Close ends the recording. One without a step leaves no file.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = os.ErrClosed
	}
	err := w.f.Close()
	if w.steps == 0 {
		err = errors.Join(err, os.Remove(w.f.Name()))
	}
	return err
}
