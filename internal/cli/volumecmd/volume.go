// SPDX-License-Identifier: Apache-2.0

package volumecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/keycmd"
	"cofferdam.dev/internal/volume/anchor"
	"cofferdam.dev/internal/volume/attach"
	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/blockcache"
	"cofferdam.dev/internal/volume/descriptor"
	"cofferdam.dev/internal/volume/luks2"
	"cofferdam.dev/internal/volume/sealed"
	"cofferdam.dev/internal/volume/shadow"
	"cofferdam.dev/internal/wholefile"
	"cofferdam.dev/release"
)

// VolumeCommand returns `volume` with all that is below it.
func (a *App) VolumeCommand() *cobra.Command {
	return console.Noun("volume", "Make encrypted volumes, and use them on storage that nobody trusts",
		a.volumeCreateCommand(), a.volumeEncryptCommand(), a.volumeAdoptCommand(), a.volumeInspectCommand(), a.volumeVerifyCommand(), a.volumeMountCommand(),
		a.volumeUploadCommand(), a.volumeKeyCommand(), a.volumeResizeCommand(), a.volumeRekeyCommand(), a.volumeConvertCommand(), a.volumeSnapshotCommand())
}

// aboutVolume is what the help of each of these commands says about descriptors.
const aboutVolume = `
A volume's descriptor says what must be known of it: its format, what is pinned of it, and
how its key is come by. It has nothing secret in it. It is --descriptor, else the image's
name with .json behind it.`

// volumeOptions say which volume is meant.
type volumeOptions struct {
	descriptor, anchors  string
	withoutAnchor        bool
	accountKey, token    string
	insecurePlain        bool
	withoutPin, writable bool
	key                  volumeKeyOptions
	vault                keycmd.VaultOptions // that has the anchor
}

func (o *volumeOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.descriptor, "descriptor", "", "the volume's descriptor (default: IMAGE.json)")
	f.StringVar(&o.anchors, "anchors", "", "directory of anchors of kind file (default: volume-anchors in the state directory)")
}

// openFlags are those of commands that open a volume with its key.
func (o *volumeOptions) openFlags(c *cobra.Command) {
	o.flags(c)
	c.Flags().BoolVar(&o.withoutAnchor, "without-anchor", false, "open a volume without its anchor: what is read may be an old state")
	o.key.openFlags(c, &o.vault)
	o.vault.Flags(c)
}

// storageFlags are the credentials of remote storage.
func (o *volumeOptions) storageFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.accountKey, "account-key-file", "", "file with the key of an Azure storage account, in base64")
	f.StringVar(&o.token, "storage-token-file", "", "file with an access token for Azure storage")
	f.BoolVar(&o.insecurePlain, "insecure-plain-http", false, "send credentials over plain HTTP to other machines")
}

// isURL tells a URL from a file's name.
func isURL(image string) bool { return strings.Contains(image, "://") }

func (o *volumeOptions) descriptorFile(image string) (string, error) {
	switch {
	case o.descriptor != "":
		return o.descriptor, nil
	case isURL(image):
		return "", errors.New("the volume is on remote storage: --descriptor must name its descriptor here")
	}
	return image + ".json", nil
}

func readDescriptor(name string) (*descriptor.Descriptor, error) {
	b, err := console.ReadLimited(name, nil, descriptor.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("reading the volume's descriptor: %w", err)
	}
	d, err := descriptor.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

func writeDescriptor(name string, d *descriptor.Descriptor) error {
	b, err := d.Marshal()
	if err != nil {
		return err
	}
	return wholefile.Replace(name, b, 0o644)
}

// anchorsIn opens the anchors of kind file.
func (o *volumeOptions) anchorsIn(a *App) (*anchor.Dir, error) {
	dir := o.anchors
	if dir == "" {
		dir = filepath.Join(a.Home, "volume-anchors")
	}
	return anchor.NewDir(dir)
}

// records returns the anchor that a descriptor wants; nil is none.
func (o *volumeOptions) records(a *App, cmd *cobra.Command, want descriptor.Anchor) (shadow.Anchor, error) {
	if o.withoutAnchor {
		return nil, nil //nolint:nilnil // it was asked for
	}
	switch want.Kind {
	case descriptor.FileAnchor:
		return o.anchorsIn(a)
	case descriptor.NoAnchor:
		return nil, nil //nolint:nilnil // there is none
	}
	return a.vaultAnchor(cmd, &o.vault, want.Vault)
}

// vaultAnchor is in the counters of a vault: the one that the flags name, else the one of the descriptor. Groups may know it
// by another name.
func (a *App) vaultAnchor(cmd *cobra.Command, o *keycmd.VaultOptions, vault string) (shadow.Anchor, error) {
	if o.Complete(a.keys); o.Vault == "" && vault != "" {
		u, err := release.ParseEndpoint(vault)
		if err != nil {
			return nil, err
		}
		o.Vault = u.String()
	}
	c, err := a.keys.VaultClient(cmd, o, "")
	if err != nil {
		return nil, err
	}
	return &anchor.Vault{URL: c.URL, HTTP: c.HTTP, Authorize: func(_ context.Context, f func(string) error) error { return f(c.Token) }}, nil
}

// storage is how the image is reached.
func (o *volumeOptions) storage(a *App, image string) (blob.Options, error) {
	return storageOptions(a, image, o.accountKey, o.token, o.insecurePlain)
}

// openVolume opens a volume. The caller closes it.
func (a *App) openVolume(ctx context.Context, cmd *cobra.Command, image string, o *volumeOptions, write bool) (*attach.Volume, error) {
	bo, err := o.storage(a, image)
	if err != nil {
		return nil, err
	}
	bo.Write = write
	if o.withoutPin {
		return a.openUnpinned(ctx, cmd, image, o, bo)
	}
	name, err := o.descriptorFile(image)
	if err != nil {
		return nil, console.Usage(cmd, err.Error())
	}
	d, err := readDescriptor(name)
	if err != nil {
		return nil, missingDescriptor(err)
	}
	key, _, err := o.key.open(ctx, a, cmd, d)
	if err != nil {
		return nil, volumeFailure(err)
	}
	defer key.Destroy()
	return a.attachVolume(ctx, cmd, image, d, key, o, bo)
}

// attachVolume opens a volume whose key is known.
func (a *App) attachVolume(ctx context.Context, cmd *cobra.Command, image string, d *descriptor.Descriptor, key descriptor.Key, o *volumeOptions, bo blob.Options) (*attach.Volume, error) {
	records, err := o.records(a, cmd, d.Anchor)
	if err != nil {
		return nil, err
	}
	src, err := attach.Storage(ctx, image, bo, blockcache.Options{})
	if err != nil {
		return nil, volumeFailure(err)
	}
	v, err := attach.Open(ctx, src, attach.Options{Descriptor: d, Key: key, Write: bo.Write, Anchor: records, WithoutAnchor: o.withoutAnchor})
	if err != nil {
		return nil, volumeFailure(errors.Join(err, src.Close()))
	}
	a.warnOf(v)
	return v, nil
}

func (a *App) openUnpinned(ctx context.Context, cmd *cobra.Command, image string, o *volumeOptions, bo blob.Options) (*attach.Volume, error) {
	if o.key.unwrap {
		return nil, console.Usage(cmd, "--unwrap needs the descriptor, which has what the vault unwraps")
	}
	secret, err := o.key.secret(a, cmd)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	src, err := attach.Storage(ctx, image, bo, blockcache.Options{})
	if err != nil {
		return nil, volumeFailure(err)
	}
	v, err := attach.OpenLUKS2WithoutPin(ctx, src, secret, bo.Write)
	if err != nil {
		return nil, volumeFailure(errors.Join(err, src.Close()))
	}
	a.warnOf(v)
	return v, nil
}

func (a *App) warnOf(v *attach.Volume) {
	s := a.Style(a.Err)
	for _, w := range v.Facts.Warnings {
		a.Say("%s %s", s.Warn("note:"), w)
	}
}

func missingDescriptor(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return console.Fixed(err, "--descriptor FILE; a LUKS2 volume that has none gets one by `cofferdam volume adopt`, or is mounted with --without-pin")
	}
	return err
}

// volumeFailure puts what a person needs beside an error of a volume. What a key or an anchor refused is exit code 3.
func volumeFailure(err error) error {
	fixes := []struct {
		is  error
		fix string
	}{
		{shadow.ErrRolledBack, "the storage was put back, or two writers were at it: the newest copy, or --without-anchor to look at this one"},
		{shadow.ErrNoRecord, "--anchors DIR, where the volume was made or written last"},
		{shadow.ErrForeignAnchor, "the anchor of this volume; or, if it was restored from a backup and this is the last state, `cofferdam volume snapshot --without-anchor` makes a new volume of it"},
		{shadow.ErrNoVolume, "the storage that belongs to this descriptor"},
		{sealed.ErrDamaged, "a copy of the storage that nobody changed, and the descriptor that belongs to it"},
		{shadow.ErrDamaged, "a copy of the storage that nobody changed"},
		{descriptor.ErrKey, "what opens this volume; `cofferdam volume key list IMAGE` says of which kinds that is"},
		{luks2.ErrKey, "--key-file or --passphrase-file of this volume"},
		{descriptor.ErrChanged, "the descriptor as its owner wrote it"},
		{luks2.ErrPin, "the storage as its owner wrote it; or, where a command that changes the volume was interrupted, that again"},
		{attach.ErrMismatch, "the descriptor that belongs to this storage"},
	}
	i := slices.IndexFunc(fixes, func(f struct {
		is  error
		fix string
	}) bool {
		return errors.Is(err, f.is)
	})
	switch {
	case i >= 0:
		return &console.Failure{Code: console.ExitRefused, Err: err, Fix: fixes[i].fix}
	case errors.Is(err, blob.ErrBusy):
		return console.Fixed(err, "end the other writer, or wait until its lease ends")
	case errors.Is(err, luks2.ErrUnfinished):
		return console.Fixed(err, "the same command again: it goes on where it ended")
	}
	return err
}

// volumeAnswer is the document behind `volume … -o json`.
type volumeAnswer struct {
	Schema     string                 `json:"schema"`
	Image      string                 `json:"image,omitempty"`
	Descriptor *descriptor.Descriptor `json:"descriptor,omitempty"`
	// File is where the descriptor is.
	File string `json:"descriptorFile,omitempty"`
	// Header is what a LUKS2 header claims.
	Header *luks2.Info `json:"header,omitempty"`
}

const volumeSchema = "cofferdam.dev/volume-facts/v1"

func (a *App) answerVolume(v *volumeAnswer) error {
	v.Schema = volumeSchema
	return a.Answer(v, func(w io.Writer) error {
		var pairs [][2]string
		if v.Image != "" {
			pairs = append(pairs, [2]string{"image", blob.Redact(v.Image)})
		}
		if d := v.Descriptor; d != nil {
			pairs = append(pairs, [2]string{"kind", string(d.Kind)}, [2]string{"id", d.UUID()}, [2]string{"size", sizeText(d.Size)},
				[2]string{"anchor", strings.TrimSpace(string(d.Anchor.Kind) + " " + d.Anchor.Vault)})
			for _, s := range d.Slots {
				pairs = append(pairs, [2]string{"key", slotText(&s)})
			}
		}
		if v.File != "" {
			pairs = append(pairs, [2]string{"descriptor", v.File})
		}
		if h := v.Header; h != nil {
			pairs = append(pairs, [2]string{"header", fmt.Sprintf("LUKS2 %s, %s, sectors of %d bytes, %d key slots, sequence %d", h.UUID, h.Cipher, h.SectorSize, len(h.Slots), h.Sequence)})
		}
		return console.Facts(w, pairs...)
	})
}

func slotText(s *descriptor.Slot) string {
	switch s.Kind {
	case descriptor.PassphraseSlot:
		return fmt.Sprintf("passphrase (Argon2id: %d passes, %d MiB)", s.Costs.Time, s.Costs.MemoryKiB>>10)
	case descriptor.VaultSlot:
		return fmt.Sprintf("%s key %s of %s, released on the word of %s", s.Vault.Type, s.Vault.Kid, s.Vault.Vault, orNone(s.Vault.Authority))
	}
	if s.Kind == descriptor.UnwrapSlot {
		return fmt.Sprintf("wrapped by the key %s of %s (%s)", s.Unwrap.Kid, s.Unwrap.Vault, s.Unwrap.Algorithm)
	}
	return "key file"
}

func orNone(s string) string {
	if s == "" {
		return "an authority of its policy"
	}
	return s
}

// sizeUnits are what sizes are written in, by the letter that they begin with.
var sizeUnits = map[byte]int64{'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40}

// parseBytes reads a size: a number of bytes, or of KiB, MiB, GiB or TiB.
func parseBytes(text string) (int64, error) {
	digits := strings.TrimRight(text, "KMGTiB")
	n, err := strconv.ParseInt(digits, 10, 64)
	unit, known := int64(1), true
	if rest := text[len(digits):]; rest != "" {
		unit, known = sizeUnits[rest[0]], rest == rest[:1] || rest[1:] == "iB"
	}
	if err != nil || n <= 0 || unit == 0 || !known || n > 1<<52/unit {
		return 0, fmt.Errorf("%q is no size; want bytes, or a number with KiB, MiB, GiB or TiB behind it", text)
	}
	return n * unit, nil
}

func sizeText(n int64) string {
	for _, u := range []struct {
		name string
		size int64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n%u.size == 0 {
			return fmt.Sprintf("%d %s", n/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
