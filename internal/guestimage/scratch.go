// SPDX-License-Identifier: Apache-2.0

package guestimage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/guestimage/cpio"
	"cofferdam.dev/internal/guestimage/scratchfmt"
)

// What mke2fs would choose at random or take from the clock. The key of a scratch disk is fresh at each boot, so
// nothing depends on these being unique.
const (
	scratchUUID     = "c0ffe4da-0000-4000-8000-5c4a7c400001"
	scratchHashSeed = "c0ffe4da-0000-4000-8000-5c4a7c400002"
	scratchTime     = "1700000000"
)

// scratchFeatures is complete, so that the machine's mke2fs.conf adds nothing. No journal, because the disk does not
// survive its machine; no resize inode and one superblock, because both would be read before they are written;
// metadata_csum marks what is uninitialised, so that the kernel does not read it.
const scratchFeatures = "none,filetype,extent,flex_bg,large_file,huge_file,dir_nlink,extra_isize,64bit,metadata_csum," +
	"ext_attr,dir_index,sparse_super2"

// scratchEntries makes the templates of all classes.
func scratchEntries(ctx context.Context, work string) ([]cpio.Entry, error) {
	var entries []cpio.Entry
	for _, c := range scratchfmt.Classes() {
		t, err := makeScratch(ctx, work, c.Bytes)
		if err != nil {
			return nil, fmt.Errorf("making scratch template %s: %w", c.Name, err)
		}
		var file bytes.Buffer
		if err := scratchfmt.Write(&file, t); err != nil {
			return nil, fmt.Errorf("making scratch template %s: %w", c.Name, err)
		}
		entries = append(entries, cpio.File(strings.TrimPrefix(c.Path(), "/"), 0o444, file.Bytes()))
	}
	return entries, nil
}

// makeScratch makes an empty ext4 filesystem in a sparse file under dir and returns what is in it.
func makeScratch(ctx context.Context, dir string, size int64) (*scratchfmt.Template, error) {
	f, err := os.CreateTemp(dir, "scratch-*.ext4")
	if err != nil {
		return nil, err
	}
	defer func() { _ = errors.Join(f.Close(), os.Remove(f.Name())) }() // its content is in the template by then
	if err := f.Truncate(size); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, mke2fsPath(), "-q", "-F", "-t", "ext4", "-b", strconv.Itoa(scratchfmt.BlockSize),
		"-I", "256", "-m", "0", "-U", scratchUUID, "-O", scratchFeatures, "-E",
		"hash_seed="+scratchHashSeed+",num_backup_sb=0,lazy_itable_init=1,nodiscard,root_owner=0:0", f.Name())
	cmd.Env = append(os.Environ(), "LC_ALL=C", "MKE2FS_CONFIG=/dev/null", "E2FSPROGS_FAKE_TIME="+scratchTime,
		"SOURCE_DATE_EPOCH="+scratchTime)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("mke2fs: %w: %s", err, bytes.TrimSpace(out))
	}
	ranges, err := dataRanges(f, size)
	if err != nil {
		return nil, err
	}
	t, err := scratchfmt.FromImage(f, size, ranges)
	if err != nil {
		return nil, err
	}
	return t, keepBitmaps(t, f)
}

// dataRanges returns the parts of a sparse file that are not holes, in whole blocks.
func dataRanges(f *os.File, size int64) ([]scratchfmt.Range, error) {
	var ranges []scratchfmt.Range
	for at := int64(0); at < size; {
		start, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("finding data: %w", err)
		}
		end, err := f.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return nil, fmt.Errorf("finding data: %w", err)
		}
		start -= start % scratchfmt.BlockSize
		at = min(end+(-end&(scratchfmt.BlockSize-1)), size)
		ranges = append(ranges, scratchfmt.Range{Offset: start, Length: at - start})
	}
	return ranges, nil
}

// mke2fsVersion is an input of the build: other versions may lay out a filesystem in another way.
func mke2fsVersion(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, mke2fsPath(), "-V").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("running mke2fs (package e2fsprogs): %w", err)
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(first), nil
}

// mke2fsPath finds the program even where the user's PATH has no sbin directories, as is Debian's default.
func mke2fsPath() string {
	if p, err := exec.LookPath("mke2fs"); err == nil {
		return p
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		p := filepath.Join(dir, "mke2fs")
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return "mke2fs"
}
