// SPDX-License-Identifier: Apache-2.0

// Package logfile keeps the output of containers in files of bounded size, byte for byte.
//
// The form is the container runtime interface's: one line for each piece of output,
// "TIME STREAM TAG DATA", where the tag F says that a newline followed the data in the output and P that it did not.
// The package trusts its own files only as far as it can parse them, treats the output as the tenant's data, and never
// lets a full disk stop a container: what can not be written is counted and left out.
package logfile

import (
	"bytes"
	"fmt"
	"time"
)

// The streams of a log.
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// maxPiece bounds the data of one line. Longer output lines are stored in pieces.
const maxPiece = 16 << 10

// Entry is one piece of output.
type Entry struct {
	Time   time.Time
	Stream string
	// Data is without the newline that ended it.
	Data []byte
	// Newline is true when a newline followed Data in the output.
	Newline bool
}

// Bytes is the output that e stands for.
func (e Entry) Bytes() []byte {
	if e.Newline {
		return append(bytes.Clone(e.Data), '\n')
	}
	return e.Data
}

// appendEntry appends e's line to b.
func appendEntry(b []byte, e Entry) []byte {
	b = e.Time.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, ' ')
	b = append(b, e.Stream...)
	if e.Newline {
		b = append(b, " F "...)
	} else {
		b = append(b, " P "...)
	}
	b = append(b, e.Data...)
	return append(b, '\n')
}

// parseEntry reads one line without its newline. The result shares line's memory.
func parseEntry(line []byte) (Entry, error) {
	stamp, rest, ok1 := bytes.Cut(line, []byte{' '})
	stream, rest, ok2 := bytes.Cut(rest, []byte{' '})
	tag, data, ok3 := bytes.Cut(rest, []byte{' '})
	if !ok1 || !ok2 || !ok3 {
		return Entry{}, fmt.Errorf("log line of %d bytes has no time, stream and tag", len(line))
	}
	t, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return Entry{}, fmt.Errorf("log line: %w", err)
	}
	e := Entry{Time: t, Stream: string(stream), Data: data, Newline: string(tag) == "F"}
	if e.Stream != Stdout && e.Stream != Stderr || !e.Newline && string(tag) != "P" {
		return Entry{}, fmt.Errorf("log line has stream %q and tag %q", stream, tag)
	}
	return e, nil
}
