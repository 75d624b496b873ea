// SPDX-License-Identifier: Apache-2.0

package agent

import "context"

// Machine is what the service needs of the guest's kernel: devices, mounts, power. The service calls it only after
// the policy allowed the request, with arguments already checked for form (paths derived, IDs 64 hex digits).
// What fails leaves nothing behind, unless the error wraps machine.ErrNotUndone. The implementation is
// internal/agent/machine; tests use a fake.
type Machine interface {
	// OpenLayer finds the disk with the given SCSI serial, opens it through dm-verity with the root hash, checks that
	// the filesystem inside has exactly dataBlocks blocks, and mounts it read-only at target.
	OpenLayer(ctx context.Context, serial string, root [32]byte, dataBlocks uint64, target string) error
	// CloseLayer undoes OpenLayer.
	CloseLayer(ctx context.Context, target string) error
	// OpenScratch formats the disk under a fresh key (dm-integrity and dm-crypt) and mounts it at target.
	OpenScratch(ctx context.Context, serial, target string) error
	// CloseScratch undoes OpenScratch; the key is forgotten.
	CloseScratch(ctx context.Context, target string) error
	// MountOverlay mounts an overlay at target. layers are mounted layer directories, top first. upperParent is the
	// directory that gets the upper and work directories; empty asks for one in memory of at most memoryBytes.
	MountOverlay(ctx context.Context, layers []string, upperParent string, memoryBytes uint64, target string) error
	// UnmountOverlay undoes MountOverlay.
	UnmountOverlay(ctx context.Context, target string) error
	// MemoryBytes is the guest's memory and what of it is available now.
	MemoryBytes() (total, available uint64)
	// PowerOff stops the machine and does not return if it succeeds.
	PowerOff() error
}
