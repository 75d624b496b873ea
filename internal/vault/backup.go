// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"

	"cofferdam.dev/internal/store"
)

// A backup is lines of JSON: a heading, an entry of the store on each line, and an end that the root key authenticates, so
// that a backup which lost or changed something is not restored. What it holds is as encrypted as in the store, and can be
// read with the same root key alone: root and backup are to be kept apart.

const backupSchema = "cofferdam.dev/vault-backup/v1"

// maxBackupLine bounds a line in bytes: the largest value in base64, its key, and what is around them.
const maxBackupLine = store.MaxValueSize*2 + 4<<10

type backupHeading struct {
	Schema string    `json:"schema"`
	Vault  string    `json:"vault"`
	Time   time.Time `json:"time"`
}

type backupEntry struct {
	Key   string `json:"key,omitempty"`
	Value []byte `json:"value,omitempty"`
	// End is set on the last line: the SHA-256 of all lines before it, under the root key.
	End []byte `json:"end,omitempty"`
}

// BackupSummary says what a backup has.
type BackupSummary struct {
	Vault   string    `json:"vault"`
	Time    time.Time `json:"time"`
	Entries int       `json:"entries"`
}

func (v *Vault) prefix() string { return "vault/" + v.opts.Name + "/" }

// endBinding binds the end of a backup to its vault.
func (v *Vault) endBinding() []byte { return bind("backup", v.prefix(), nil) }

// Backup writes all that the vault has at one moment.
func (v *Vault) Backup(ctx context.Context, w io.Writer) (*BackupSummary, error) {
	if _, err := v.Record(ctx, "vault.backup", "vault/"+v.opts.Name, true, ""); err != nil {
		return nil, err
	}
	out := &BackupSummary{Vault: v.opts.Name, Time: v.opts.Now().UTC()}
	h := sha256.New()
	lines := json.NewEncoder(io.MultiWriter(w, h))
	err := lines.Encode(backupHeading{backupSchema, out.Vault, out.Time})
	if err != nil {
		return nil, fmt.Errorf("writing the backup: %w", err)
	}
	err = v.opts.Store.View(ctx, func(r store.Reader) error {
		for after := ""; ; {
			page, err := r.List(v.prefix(), after, store.MaxTracked)
			if err != nil || len(page) == 0 {
				return err
			}
			for _, e := range page {
				if err := lines.Encode(backupEntry{Key: strings.TrimPrefix(e.Key, v.prefix()), Value: e.Value}); err != nil {
					return err
				}
				out.Entries++
			}
			after = page[len(page)-1].Key
		}
	})
	if err != nil {
		return nil, fmt.Errorf("writing the backup: %w", err)
	}
	end, err := v.opts.Root.Wrap(ctx, h.Sum(nil), v.endBinding())
	if err == nil {
		err = json.NewEncoder(w).Encode(backupEntry{End: end})
	}
	if err != nil {
		return nil, fmt.Errorf("writing the backup: %w", err)
	}
	return out, nil
}

// Restore checks a backup as a whole, and then writes it into a vault of the same name and root that has nothing. If it is
// interrupted, each object is there with all its versions or not at all, and the vault must be emptied to begin again.
func (v *Vault) Restore(ctx context.Context, r io.ReadSeeker) (*BackupSummary, error) {
	if _, err := v.Record(ctx, "vault.restore", "vault/"+v.opts.Name, true, ""); err != nil {
		return nil, err
	}
	out, sum, err := v.checkBackup(ctx, r)
	if err != nil {
		return nil, err
	}
	err = v.opts.Store.View(ctx, func(r store.Reader) error {
		list, err := r.List(v.prefix(), "", 1)
		if err == nil && len(list) > 0 {
			err = fmt.Errorf("the vault %q is not empty", v.opts.Name)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("restoring: %w", err)
	}
	// Versions lie where nobody looks before their head is there.
	for _, heads := range []bool{false, true} {
		if err := v.restorePart(ctx, r, heads, sum); err != nil {
			return nil, fmt.Errorf("restoring: %w", err)
		}
	}
	return out, nil
}

// restorePart writes the heads of objects, or all else, of a backup with this digest.
func (v *Vault) restorePart(ctx context.Context, r io.ReadSeeker, heads bool, sum []byte) error {
	var pending []store.Entry
	size := 0
	flush := func() error {
		err := v.opts.Store.Update(ctx, func(tx store.Tx) error {
			for _, e := range pending {
				if err := tx.Put(e.Key, e.Value); err != nil {
					return err
				}
			}
			return nil
		})
		pending, size = nil, 0
		return err
	}
	h := sha256.New()
	_, err := v.readBackup(r, h, func(e backupEntry) error {
		if isHead(e.Key) != heads {
			return nil
		}
		if len(pending) == store.MaxTracked/2 || size+len(e.Value) > store.MaxValueSize {
			if err := flush(); err != nil {
				return err
			}
		}
		pending, size = append(pending, store.Entry{Key: v.prefix() + e.Key, Value: e.Value}), size+len(e.Value)
		return nil
	})
	if err == nil && !bytes.Equal(sum, h.Sum(nil)) {
		err = errors.New("the backup was changed while it was read")
	}
	if err != nil {
		return err
	}
	return flush()
}

func isHead(key string) bool {
	_, rest, _ := strings.Cut(key, "/")
	return strings.HasPrefix(rest, string(live)+"/") || strings.HasPrefix(rest, string(deleted)+"/")
}

// CheckBackup says what a backup of this vault has, and whether it is whole and unchanged.
func (v *Vault) CheckBackup(ctx context.Context, r io.ReadSeeker) (*BackupSummary, error) {
	out, _, err := v.checkBackup(ctx, r)
	return out, err
}

// checkBackup also returns the digest of the backup's lines.
func (v *Vault) checkBackup(ctx context.Context, r io.ReadSeeker) (*BackupSummary, []byte, error) {
	h := sha256.New()
	var out BackupSummary
	end, err := v.readBackup(r, h, func(e backupEntry) error {
		out.Entries++
		return store.CheckEntry(v.prefix()+e.Key, e.Value)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("reading the backup: %w", err)
	}
	sum, err := v.opts.Root.Unwrap(ctx, end.end, v.endBinding())
	if err != nil {
		return nil, nil, fmt.Errorf("reading the backup: its end: %w", err)
	}
	if !bytes.Equal(sum, h.Sum(nil)) {
		return nil, nil, errors.New("reading the backup: it was changed or lost something")
	}
	out.Vault, out.Time = end.heading.Vault, end.heading.Time
	return &out, sum, nil
}

// backupEnds are the first and the last line.
type backupEnds struct {
	heading backupHeading
	end     []byte
}

// readBackup reads from the beginning, and hashes all lines but the last.
func (v *Vault) readBackup(r io.ReadSeeker, h hash.Hash, visit func(backupEntry) error) (*backupEnds, error) {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxBackupLine)
	var out backupEnds
	for n := 1; s.Scan(); n++ {
		if out.end != nil {
			return nil, fmt.Errorf("line %d follows the end", n)
		}
		if n == 1 {
			if err := json.Unmarshal(s.Bytes(), &out.heading); err != nil || out.heading.Schema != backupSchema || out.heading.Vault != v.opts.Name {
				return nil, fmt.Errorf("it is no backup of the vault %q", v.opts.Name)
			}
		} else {
			var e backupEntry
			if err := json.Unmarshal(s.Bytes(), &e); err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			if e.End != nil {
				out.end = e.End
				continue
			}
			if err := visit(e); err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
		}
		_, _ = h.Write(s.Bytes())    // a hash never fails
		_, _ = h.Write([]byte{'\n'}) // nor here
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	if out.end == nil {
		return nil, errors.New("it has no end")
	}
	return &out, nil
}
