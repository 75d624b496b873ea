// SPDX-License-Identifier: Apache-2.0

package encfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/volume/anchor"
	"cofferdam.dev/internal/volume/attach"
	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/blockcache"
	"cofferdam.dev/internal/volume/descriptor"
	"cofferdam.dev/internal/volume/fusefile"
	"cofferdam.dev/internal/volume/mount"
	"cofferdam.dev/internal/volume/shadow"
	"cofferdam.dev/release"
)

const (
	// DefaultWait is for how long servers and storage that can not answer yet are tried again.
	DefaultWait = 2 * time.Minute
	// leaseWait is how long the lease of a writer before us is waited for: longer than a lease lasts.
	leaseWait = 75 * time.Second
	// DefaultCache is the most memory for blocks of one remote volume, and leastCache the least, in bytes.
	DefaultCache = blockcache.DefaultMaxBytes
	leastCache   = 16 << 20
	// unmountWait is how long each filesystem that is in use is waited for at the end.
	unmountWait = 20 * time.Second
)

// Options are what a sidecar is made of.
type Options struct {
	Config *Config
	// Releaser has keys released.
	Releaser Releaser
	// Anchor returns the anchor in the counters of a vault; nil has none.
	Anchor func(vault string) (shadow.Anchor, error)
	// Public and Private say how storage is reached that anybody reads, and that the group's identity reads.
	Public, Private blob.Options
	// CacheBytes bounds the memory for blocks of all remote volumes together; zero is DefaultCache for each.
	CacheBytes int64
	// Files is a directory for private mounts; empty is the system's for temporary files.
	Files string
	// Wait is for how long what fails for now is tried again; zero is DefaultWait.
	Wait time.Duration
	Log  *slog.Logger
}

// Sidecar mounts filesystems, and keeps them mounted.
type Sidecar struct {
	opts  Options
	mu    sync.Mutex
	state []Status
	open  []opened
}

// opened is a filesystem that is mounted.
type opened struct {
	index  int
	link   string
	dir    string
	mount  *mount.Filesystem
	volume *attach.Volume
}

// State is where a filesystem stands.
type State string

// The states.
const (
	Waiting   State = "waiting"
	Opening   State = "opening"
	Mounted   State = "mounted"
	Failed    State = "failed"
	Unmounted State = "unmounted"
)

// Status is a filesystem's.
type Status struct {
	MountPoint string `json:"mountPoint"`
	// URL has no credentials in it.
	URL   string `json:"url"`
	State State  `json:"state"`
	// Error says why it has failed.
	Error string `json:"error,omitempty"`
	// Filesystem is its type.
	Filesystem string `json:"filesystem,omitempty"`
	// Volume is what is known of the volume, and what of it is not protected.
	Volume *attach.Facts `json:"volume,omitempty"`
	// Kernel says that the kernel's own drivers decrypt and verify it, and Damaged that they have found something else than was
	// sealed. Our own code counts that as errors.
	Kernel  bool `json:"kernel"`
	Damaged bool `json:"damaged,omitempty"`
	// Errors counts requests that failed since it is mounted.
	Errors int64 `json:"errors"`

	mounted *mount.Filesystem
}

// New returns a sidecar that has mounted nothing yet.
func New(o Options) (*Sidecar, error) {
	if o.Config == nil || o.Releaser == nil {
		return nil, errors.New("filesystem sidecar: there is no configuration, or nothing that has keys released")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Wait == 0 {
		o.Wait = DefaultWait
	}
	s := &Sidecar{opts: o}
	for i := range o.Config.Filesystems {
		f := &o.Config.Filesystems[i]
		s.state = append(s.state, Status{MountPoint: f.MountPoint, URL: blob.Redact(f.URL), State: Waiting})
	}
	return s, nil
}

// Status returns where all filesystems stand.
func (s *Sidecar) Status() []Status {
	s.mu.Lock()
	list := slices.Clone(s.state)
	s.mu.Unlock()
	for i := range list {
		st := &list[i]
		st.Damaged = st.mounted != nil && st.mounted.Damaged()
	}
	return list
}

func (s *Sidecar) set(i int, change func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.state[i])
}

// Ready says whether all filesystems are mounted.
func (s *Sidecar) Ready(context.Context) error {
	for _, st := range s.Status() {
		if st.State != Mounted {
			return fmt.Errorf("%s is %s", st.MountPoint, st.State)
		}
	}
	return nil
}

// Mount mounts all filesystems, one after the other, as the original does. The first one that can not be mounted ends it;
// what was mounted before stays until Close.
func (s *Sidecar) Mount(ctx context.Context) error {
	for i := range s.opts.Config.Filesystems {
		f := &s.opts.Config.Filesystems[i]
		s.set(i, func(st *Status) { st.State = Opening })
		err := s.patiently(ctx, func() error { return s.mount(ctx, i, f) })
		if err != nil {
			s.set(i, func(st *Status) { st.State, st.Error = Failed, err.Error() })
			return fmt.Errorf("filesystem %d for %s: %w", i, f.MountPoint, err)
		}
	}
	return nil
}

// patiently tries again what failed for now.
func (s *Sidecar) patiently(ctx context.Context, do func() error) error {
	end := time.Now().Add(s.opts.Wait)
	for pause := 500 * time.Millisecond; ; pause = min(2*pause, 10*time.Second) {
		err := do()
		if err == nil || !errors.Is(err, release.ErrUnavailable) && !blob.Temporary(err) || time.Now().Add(pause).After(end) {
			return err
		}
		s.opts.Log.Warn("a filesystem is tried again", slog.String("pause", pause.String()))
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

func (s *Sidecar) mount(ctx context.Context, i int, f *Filesystem) error {
	v, err := s.volume(ctx, f)
	if err != nil {
		return err
	}
	o := opened{index: i, link: f.MountPoint, dir: filepath.Join(filepath.Dir(f.MountPoint), fmt.Sprintf(".filesystem-%d", i)), volume: v}
	if o.mount, err = s.mountOn(ctx, &o, f); err != nil {
		return errors.Join(err, v.Close(context.WithoutCancel(ctx)))
	}
	s.open = append(s.open, o)
	if err := expose(o.link, filepath.Base(o.dir)); err != nil {
		return err
	}
	s.set(i, func(st *Status) {
		st.State, st.Filesystem, st.Volume, st.Kernel, st.mounted = Mounted, o.mount.Type, &v.Facts, o.mount.Kernel, o.mount
	})
	s.opts.Log.Info("a filesystem is mounted", slog.Int("index", i), slog.String("type", o.mount.Type), slog.String("kind", string(v.Facts.Kind)),
		slog.Bool("authenticated", v.Facts.Authenticated), slog.Bool("anchored", v.Facts.Anchored), slog.Bool("kernel", o.mount.Kernel))
	for _, w := range v.Facts.Warnings {
		s.opts.Log.Warn("a volume is not protected", slog.Int("index", i), slog.String("how", w))
	}
	return nil
}

func (s *Sidecar) mountOn(ctx context.Context, o *opened, f *Filesystem) (*mount.Filesystem, error) {
	// What a sidecar left that was killed serves nobody any more.
	for unix.Unmount(o.dir, unix.MNT_DETACH) == nil {
		s.opts.Log.Warn("what was mounted before is unmounted", slog.Int("index", o.index))
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil { //nolint:gosec // containers with other users find the filesystem there
		return nil, err
	}
	mo := mount.Options{Write: f.ReadWrite, Files: s.opts.Files, File: fusefile.Options{
		Failed: func(operation string, err error) {
			s.set(o.index, func(st *Status) { st.Errors++ })
			s.opts.Log.Error("a request of a filesystem failed", slog.Int("index", o.index), slog.String("operation", operation), slog.Any("error", err))
		},
	}}
	if k := o.volume.Kernel(); k != nil {
		defer k.Destroy()
		mo.Plan, mo.Below = k.Plan, k.Below
		mo.Without = func(err error) {
			s.opts.Log.Info("a volume is decrypted here, not by the kernel", slog.Int("index", o.index), slog.Any("reason", err))
		}
	}
	return mount.Mount(ctx, o.volume.Device, o.dir, mo)
}

// expose makes the link by which containers find a filesystem, all at once: it is not there before the filesystem is.
func expose(link, to string) error {
	err := os.Symlink(to, link)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if now, err := os.Readlink(link); err != nil || now != to {
		return fmt.Errorf("%s is there already, and is not the link to %s", link, to)
	}
	return nil
}

// volume opens the volume of a filesystem.
func (s *Sidecar) volume(ctx context.Context, f *Filesystem) (*attach.Volume, error) {
	secret, err := f.secret(ctx, s.opts.Releaser)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	var key descriptor.Key
	if d := f.Ours.Descriptor; d != nil {
		if key, err = d.Open(secret, func(sl *descriptor.Slot) bool { return sl.Kind != descriptor.PassphraseSlot }); err != nil {
			return nil, err
		}
		defer key.Destroy()
	}
	bo := s.opts.Public
	if f.Private {
		bo = s.opts.Private
	}
	bo.Write, bo.LeaseWait = f.ReadWrite, leaseWait
	src, err := attach.Storage(ctx, f.URL, bo, s.cache())
	if err != nil {
		return nil, err
	}
	var v *attach.Volume
	if f.Ours.Descriptor == nil {
		v, err = attach.OpenLUKS2WithoutPin(ctx, src, secret, f.ReadWrite)
	} else {
		v, err = s.described(ctx, f, src, key)
	}
	if err != nil {
		return nil, errors.Join(err, src.Close())
	}
	return v, nil
}

// cache says how much memory a volume may have: its part of all, at least what a cache needs to be of use.
func (s *Sidecar) cache() blockcache.Options {
	if s.opts.CacheBytes == 0 {
		return blockcache.Options{}
	}
	most := min(max(s.opts.CacheBytes/int64(len(s.opts.Config.Filesystems)), leastCache), DefaultCache)
	return blockcache.Options{MaxBytes: most, Ahead: min(blockcache.DefaultAhead, most/4)}
}

// described opens a volume that has a descriptor.
func (s *Sidecar) described(ctx context.Context, f *Filesystem, src blob.Source, key descriptor.Key) (*attach.Volume, error) {
	o := attach.Options{Descriptor: f.Ours.Descriptor, Key: key, Write: f.ReadWrite, WithoutAnchor: f.Ours.WithoutAnchor}
	var err error
	switch want := f.Ours.Descriptor.Anchor; {
	case o.WithoutAnchor:
	case want.Kind == descriptor.FileAnchor && f.Ours.AnchorDirectory != "":
		o.Anchor, err = anchor.NewDir(f.Ours.AnchorDirectory)
	case want.Kind == descriptor.VaultAnchor && s.opts.Anchor != nil:
		o.Anchor, err = s.opts.Anchor(want.Vault)
	}
	if err != nil {
		return nil, err
	}
	v, err := attach.Open(ctx, src, o)
	if err == nil && v.Facts.Anchored && f.Ours.Descriptor.Anchor.Kind == descriptor.FileAnchor {
		// On the owner's own machine such an anchor is one. What a group has in its directories is the host's, or is gone
		// with the machine.
		v.Facts.Anchored = false
		v.Facts.Warnings = append(v.Facts.Warnings, fileAnchorWarning)
	}
	return v, err
}

// fileAnchorWarning is what an anchor of kind file does not protect from in a group.
const fileAnchorWarning = "anchored in a file: whoever keeps its directory as well as the storage, as the host of a group can, puts older states of both back"

// Close unmounts all filesystems, the last one first, and makes what was written durable. One that is still in use is flushed,
// and left to the end of the process; the error says so.
func (s *Sidecar) Close(ctx context.Context) error {
	var errs []error
	for _, o := range slices.Backward(s.open) {
		err := s.unmount(ctx, &o)
		s.set(o.index, func(st *Status) {
			if st.State = Unmounted; err != nil {
				st.State, st.Error = Failed, err.Error()
			}
		})
		errs = append(errs, err)
	}
	s.open = nil
	return errors.Join(errs...)
}

func (s *Sidecar) unmount(ctx context.Context, o *opened) error {
	_ = os.Remove(o.link) // nobody new finds it; if it is gone, all the better
	ctx, stop := context.WithTimeout(ctx, unmountWait)
	defer stop()
	err := o.mount.Close(ctx)
	if err != nil {
		return errors.Join(err, o.mount.Sync(), o.volume.Flush(context.WithoutCancel(ctx)))
	}
	err = o.volume.Close(context.WithoutCancel(ctx))
	if rm := os.Remove(o.dir); err == nil && rm == nil {
		s.opts.Log.Info("a filesystem is unmounted", slog.Int("index", o.index))
	}
	return err
}
