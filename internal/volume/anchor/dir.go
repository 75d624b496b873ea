// SPDX-License-Identifier: Apache-2.0

package anchor

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/strictjson"
	"cofferdam.dev/internal/volume/shadow"
	"cofferdam.dev/internal/wholefile"
)

// recordSchema names the form of a record in a file.
const recordSchema = "cofferdam.dev/volume-anchor/v1"

// maxRecord bounds the file of a record in bytes.
const maxRecord = 4 << 10

// Dir keeps records in a directory of whoever opens the volumes, one file for each. It is as safe from being put back as the
// directory is: not at all from the machine's owner, which makes it a thing for development and for one's own laptop.
type Dir struct{ path string }

// NewDir returns the records in a directory, which is made, for its owner alone, if it is not there.
func NewDir(path string) (*Dir, error) {
	if path == "" {
		return nil, errors.New("opening the anchors: no directory is named")
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("opening the anchors: %w", err)
	}
	return &Dir{path}, nil
}

func (d *Dir) file(volume [16]byte) string {
	return filepath.Join(d.path, hex.EncodeToString(volume[:])+".json")
}

// Load returns the record of a volume.
func (d *Dir) Load(_ context.Context, volume [16]byte) (shadow.Record, error) {
	r, err := d.load(volume)
	if err != nil {
		return shadow.Record{}, fmt.Errorf("reading the anchor %s: %w", d.file(volume), err)
	}
	return r, nil
}

func (d *Dir) load(volume [16]byte) (r shadow.Record, err error) {
	f, err := os.Open(d.file(volume))
	if errors.Is(err, fs.ErrNotExist) {
		return r, shadow.ErrNoRecord
	}
	if err != nil {
		return r, err
	}
	defer func() { _ = f.Close() }() // it is only read
	b, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err == nil && len(b) > maxRecord {
		err = fmt.Errorf("it has more than %d bytes", maxRecord)
	}
	if err != nil {
		return r, err
	}
	return parseRecord(b, volume)
}

// fileRecord is a record in a file.
type fileRecord struct {
	Schema     string `json:"schema"`
	Volume     string `json:"volume"`
	Generation string `json:"generation"`
	Digest     string `json:"digest"`
}

func parseRecord(b []byte, volume [16]byte) (r shadow.Record, err error) {
	o, err := strictjson.Parse(b)
	if err == nil {
		err = o.Only("schema", "volume", "generation", "digest")
	}
	var text [4]string
	for i, key := range []string{"schema", "volume", "generation", "digest"} {
		if err == nil {
			text[i], err = o.Text(key)
		}
	}
	if err != nil {
		return r, err
	}
	if text[0] != recordSchema || text[1] != hex.EncodeToString(volume[:]) {
		return r, fmt.Errorf("it is %.64q of the volume %.40q", text[0], text[1])
	}
	r.Volume = volume
	if r.Generation, err = strconv.ParseUint(text[2], 10, 64); err != nil || r.Generation == 0 || strconv.FormatUint(r.Generation, 10) != text[2] {
		return shadow.Record{}, fmt.Errorf("its generation is %.32q", text[2])
	}
	if r.Digest, err = digest(text[3]); err != nil {
		return shadow.Record{}, err
	}
	return r, nil
}

// Move replaces a record.
func (d *Dir) Move(ctx context.Context, was, next shadow.Record) error {
	if err := check(was, next); err != nil {
		return err
	}
	lock, err := d.lock(ctx, next.Volume)
	if err != nil {
		return fmt.Errorf("moving the anchor %s: %w", d.file(next.Volume), err)
	}
	defer func() { _ = lock.Close() }() // which ends the lock
	now, err := d.load(next.Volume)
	if errors.Is(err, shadow.ErrNoRecord) {
		err = nil // now is zero
	}
	switch {
	case err != nil:
	case now != was:
		err = shadow.ErrMoved
	default:
		err = d.write(next)
	}
	if err != nil {
		return fmt.Errorf("moving the anchor %s: %w", d.file(next.Volume), err)
	}
	return nil
}

func (d *Dir) write(r shadow.Record) error {
	b, err := json.Marshal(fileRecord{recordSchema, hex.EncodeToString(r.Volume[:]), strconv.FormatUint(r.Generation, 10), hex.EncodeToString(r.Digest[:])})
	if err != nil {
		return err
	}
	return wholefile.Replace(d.file(r.Volume), append(b, '\n'), 0o600)
}

// lock keeps other processes from moving the record. The file that is locked is another one, which is never replaced.
func (d *Dir) lock(ctx context.Context, volume [16]byte) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(d.path, hex.EncodeToString(volume[:])+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	// It is held for as long as a file takes to be written.
	for err = unix.EINTR; errors.Is(err, unix.EINTR) && ctx.Err() == nil; {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		_ = f.Close() // the other error says more
		return nil, fmt.Errorf("locking it: %w", err)
	}
	return f, nil
}
