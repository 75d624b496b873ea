// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ConfigfsRoot is where Linux 6.7 and later offer reports (Documentation/ABI/testing/configfs-tsm).
const ConfigfsRoot = "/sys/kernel/config/tsm/report"

// Limits of what is read from the kernel.
const (
	maxAttribute = 4 << 10
	maxBlob      = 128 << 10
	maxAttempts  = 5
)

// entries is the part of a filesystem that configfs needs: each directory made is an entry that the kernel fills with
// attribute files.
type entries interface {
	Mkdir(name string) error
	Remove(name string) error
	ReadFile(name string, limit int64) ([]byte, error)
	WriteFile(name string, b []byte) error
	// Exists returns why there is no such file, or nil.
	Exists(name string) error
}

// Configfs obtains reports from the kernel's configfs-tsm interface.
type Configfs struct {
	root string
	fs   entries
}

var _ Provider = (*Configfs)(nil)

// OpenConfigfs returns a provider that uses the configfs-tsm directory root, normally ConfigfsRoot. It fails when there
// is no such directory: then the kernel has no provider of reports.
func OpenConfigfs(root string) (*Configfs, error) {
	info, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("opening configfs-tsm: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("opening configfs-tsm: %s is no directory", root)
	}
	return &Configfs{root: root, fs: osEntries{}}, nil
}

// Kind returns "configfs-tsm".
func (c *Configfs) Kind() string { return KindConfigfs }

// errRaced says that another user of the entry came between.
var errRaced = errors.New("entry was changed meanwhile")

// Report returns the report of whatever provider the kernel has, at the most privileged level that the kernel may ask for.
func (c *Configfs) Report(ctx context.Context, reportData [64]byte) (*Result, error) {
	var err error
	for range maxAttempts {
		if err = ctx.Err(); err != nil {
			break
		}
		var r *Result
		if r, err = c.once(reportData); err == nil {
			return r, nil
		}
		if !errors.Is(err, errRaced) {
			break
		}
	}
	return nil, fmt.Errorf("getting report from %s: %w", c.root, err)
}

// probe finds out whether the kernel has a provider that is understood, without asking it for a report. The directory is
// there wherever the kernel's framework is, and that is on machines without a TEE, too.
func (c *Configfs) probe() error {
	return c.inEntry(func(dir string) error {
		_, err := c.provider(dir)
		return err
	})
}

// inEntry makes an entry for one use and removes it.
func (c *Configfs) inEntry(use func(dir string) error) (err error) {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails: the runtime ends the process instead
	dir := filepath.Join(c.root, "cofferdam-"+hex.EncodeToString(id[:]))
	if err := c.fs.Mkdir(dir); err != nil {
		return fmt.Errorf("making entry: %w", err)
	}
	defer func() {
		if e := c.fs.Remove(dir); e != nil && err == nil {
			err = fmt.Errorf("removing entry: %w", e)
		}
	}()
	return use(dir)
}

// once gets a report through an entry of its own.
func (c *Configfs) once(reportData [64]byte) (*Result, error) {
	var r *Result
	err := c.inEntry(func(dir string) (err error) {
		r, err = c.ask(dir, reportData)
		return err
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (c *Configfs) ask(dir string, reportData [64]byte) (*Result, error) {
	if err := c.level(dir); err != nil {
		return nil, err
	}
	before, err := c.generation(dir)
	if err != nil {
		return nil, err
	}
	if err := c.fs.WriteFile(filepath.Join(dir, "inblob"), reportData[:]); err != nil {
		return nil, fmt.Errorf("writing report data: %w", err)
	}
	r, err := c.read(dir)
	if err != nil {
		return nil, err
	}
	// The kernel counts every write. More than ours means that the blobs may belong to other report data.
	after, err := c.generation(dir)
	if err != nil {
		return nil, err
	}
	if after != before+1 {
		return nil, fmt.Errorf("%w: generation went from %d to %d", errRaced, before, after)
	}
	if r.Type == TypeSEVSNP {
		err = checkSNP(r.Report, reportData)
	} else {
		err = checkQuote(r.Report, quoteTDX, reportData)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// level chooses the most privileged level that this kernel may ask for, which is not the most privileged one below a
// service module (privlevel and privlevel_floor, Linux 6.7 and later, SEV-SNP alone).
func (c *Configfs) level(dir string) error {
	text, err := c.fs.ReadFile(filepath.Join(dir, "privlevel_floor"), maxAttribute)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading privilege level: %w", err)
	}
	floor, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 8)
	if err != nil {
		return fmt.Errorf("reading privilege level: %w", err)
	}
	if floor == 0 { // as it is anyway
		return nil
	}
	err = c.fs.WriteFile(filepath.Join(dir, "privlevel"), strconv.AppendUint(nil, floor, 10))
	if err != nil {
		return fmt.Errorf("choosing privilege level %d: %w", floor, err)
	}
	return nil
}

func (c *Configfs) read(dir string) (*Result, error) {
	report, err := c.fs.ReadFile(filepath.Join(dir, "outblob"), maxBlob)
	if err != nil {
		return nil, fmt.Errorf("reading report: %w", err)
	}
	kind, err := c.provider(dir)
	if err != nil {
		return nil, err
	}
	r := &Result{Type: kind, Report: report}
	if kind != TypeSEVSNP {
		return r, nil
	}
	r.Certificates, err = c.fs.ReadFile(filepath.Join(dir, "auxblob"), maxBlob)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // kernels without certificates have no such file
		return nil, fmt.Errorf("reading certificates: %w", err)
	}
	return r, nil
}

// provider returns the type of the reports that the kernel's provider makes.
func (c *Configfs) provider(dir string) (string, error) {
	name, err := c.fs.ReadFile(filepath.Join(dir, "provider"), maxAttribute)
	if err != nil {
		return "", fmt.Errorf("reading provider: %w", err)
	}
	switch provider := strings.TrimSpace(string(name)); provider {
	case "sev_guest":
		return TypeSEVSNP, nil
	case "tdx_guest":
		return TypeTDX, nil
	default:
		return "", fmt.Errorf("provider %q is not sev_guest or tdx_guest", provider)
	}
}

func (c *Configfs) generation(dir string) (uint64, error) {
	b, err := c.fs.ReadFile(filepath.Join(dir, "generation"), maxAttribute)
	if err != nil {
		return 0, fmt.Errorf("reading generation: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading generation: %w", err)
	}
	return n, nil
}

// osEntries is the real filesystem.
type osEntries struct{}

func (osEntries) Mkdir(name string) error  { return os.Mkdir(name, 0o700) }
func (osEntries) Remove(name string) error { return os.Remove(name) }

func (osEntries) Exists(name string) error {
	_, err := os.Stat(name)
	return err
}

func (osEntries) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // opened for reading
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return b, nil
}

func (osEntries) WriteFile(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b) // in one write: configfs takes a binary attribute on close
	return errors.Join(err, f.Close())
}
