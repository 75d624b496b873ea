// SPDX-License-Identifier: Apache-2.0

// Package block finds the guest's disks by the serial numbers that the host gave them.
//
// A serial number only says which disk the host means; it proves nothing about the content. What makes a disk's
// content trustworthy (dm-verity, encryption) is up to the caller. The package parses sysfs entries whose content the
// host chooses, strictly, refuses a serial number that two disks claim, and never reads or writes a disk.
package block

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// MaxSerial is the longest serial number that is accepted, in bytes.
const MaxSerial = 20

// SectorSize is the unit of disk sizes in sysfs and in device-mapper tables, whatever the disk's own blocks are.
const SectorSize = 512

// ErrAmbiguous says that more than one disk has the serial number.
var ErrAmbiguous = errors.New("several disks claim the serial number")

// Disk is a SCSI disk of this machine.
type Disk struct {
	Name         string // the kernel's, such as "sda"
	Major, Minor uint32
	Sectors      uint64 // of 512 bytes
}

// Number is the disk as device-mapper tables name it: MAJOR:MINOR.
func (d Disk) Number() string { return fmt.Sprintf("%d:%d", d.Major, d.Minor) }

// Bytes is the disk's size.
func (d Disk) Bytes() uint64 { return d.Sectors * SectorSize }

// Finder looks for disks. The zero Finder uses /sys and waits up to DefaultWait.
type Finder struct {
	// Sys is where sysfs is mounted, by default /sys.
	Sys string
	// Wait is how long Find waits for a disk to appear. Zero means DefaultWait, a negative value not to wait.
	Wait time.Duration
}

// DefaultWait is generous: disks are plugged before the machine starts, but the kernel looks for them in the
// background, which takes seconds in an emulated guest on a loaded host.
const DefaultWait = 10 * time.Second

const pollInterval = 10 * time.Millisecond

// Find returns the disk whose serial number is serial. It waits for it to appear.
func (f Finder) Find(ctx context.Context, serial string) (Disk, error) {
	err := CheckSerial(serial)
	if err != nil {
		return Disk{}, err
	}
	wait := f.Wait
	if wait == 0 {
		wait = DefaultWait
	}
	deadline := time.Now().Add(wait)
	for {
		d, found, err := f.scan(serial)
		if err != nil {
			return Disk{}, fmt.Errorf("looking for disk %q: %w", serial, err)
		}
		if found {
			return d, nil
		}
		if time.Now().After(deadline) {
			return Disk{}, fmt.Errorf("looking for disk %q: no disk has this serial number: %w", serial, os.ErrNotExist)
		}
		select {
		case <-ctx.Done():
			return Disk{}, fmt.Errorf("looking for disk %q: %w", serial, ctx.Err())
		case <-time.After(pollInterval):
		}
	}
}

// scan looks once. Disks whose serial number is missing or malformed belong to no one and are passed over.
func (f Finder) scan(serial string) (Disk, bool, error) {
	sys := f.Sys
	if sys == "" {
		sys = "/sys"
	}
	pages, err := filepath.Glob(filepath.Join(sys, "block", "*", "device", "vpd_pg80"))
	if err != nil {
		return Disk{}, false, err
	}
	var dir string
	for _, page := range pages {
		raw, err := os.ReadFile(page)
		if err != nil {
			continue // the disk went away, or answers no inquiry
		}
		got, err := ParseSerialPage(raw)
		if err != nil || got != serial {
			continue
		}
		if dir != "" {
			return Disk{}, false, ErrAmbiguous
		}
		dir = filepath.Dir(filepath.Dir(page))
	}
	if dir == "" {
		return Disk{}, false, nil
	}
	d, err := readDisk(dir)
	return d, err == nil, err
}

func readDisk(dir string) (Disk, error) {
	number, err := readLine(dir, "dev")
	if err != nil {
		return Disk{}, err
	}
	size, err := readLine(dir, "size")
	if err != nil {
		return Disk{}, err
	}
	d := Disk{Name: filepath.Base(dir)}
	d.Sectors, err = strconv.ParseUint(size, 10, 54) // so that Bytes can not overflow
	if err != nil {
		return Disk{}, fmt.Errorf("size of disk %s: %w", d.Name, err)
	}
	major, minor, ok := strings.Cut(number, ":")
	if !ok {
		return Disk{}, fmt.Errorf("device number of disk %s is %q, want MAJOR:MINOR", d.Name, number)
	}
	d.Major, err = parseNumber(major)
	if err == nil {
		d.Minor, err = parseNumber(minor)
	}
	if err != nil {
		return Disk{}, fmt.Errorf("device number of disk %s: %w", d.Name, err)
	}
	return d, nil
}

func parseNumber(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 20)
	return uint32(n), err
}

func readLine(dir, name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(string(b), "\n"), nil
}

// ParseSerialPage reads the unit serial number of a SCSI vital product data page 80h (SPC-4, 7.8.13).
func ParseSerialPage(page []byte) (string, error) {
	const head = 4
	if len(page) < head || page[0] != 0 || page[1] != 0x80 {
		return "", fmt.Errorf("page of %d bytes is not the unit serial number page of a disk", len(page))
	}
	n := int(binary.BigEndian.Uint16(page[2:]))
	if n != len(page)-head {
		return "", fmt.Errorf("unit serial number page says %d bytes, has %d", n, len(page)-head)
	}
	serial := string(bytes.TrimRight(page[head:], " ")) // SPC-4 lets a device pad with spaces
	return serial, CheckSerial(serial)
}

// CheckSerial refuses serial numbers that are not 1 to MaxSerial characters of [a-z0-9-].
func CheckSerial(serial string) error {
	if serial == "" || len(serial) > MaxSerial || strings.Trim(serial, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return fmt.Errorf("serial number %q is not 1 to %d characters of [a-z0-9-]", serial, MaxSerial)
	}
	return nil
}
