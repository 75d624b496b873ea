// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/luks2"
	"cofferdam.dev/internal/volume/mapped"
	"cofferdam.dev/internal/volume/sealed"
)

// Kernel is how the kernel's own drivers open a volume that was opened here, and verified, before.
type Kernel struct {
	// Plan is what they are told. Whoever took it wipes its keys, with Destroy.
	Plan *mapped.Plan
	// Below is the storage as it is, for them to read and write.
	Below Device
}

// Destroy wipes the keys.
func (k *Kernel) Destroy() {
	if k != nil {
		k.Plan.Destroy()
	}
}

// Kernel returns, once, how the kernel's drivers open the volume; nil when they have no such volumes. What they write is
// flushed with the volume.
func (v *Volume) Kernel() *Kernel {
	k := v.kernel
	v.kernel = nil
	return k
}

// cipher is the one that LUKS2 volumes are opened with.
const cipher = "aes-xts-plain64"

// luksKernel is how the kernel opens a LUKS2 volume whose header is what these facts say. Volumes that it can not have are
// left to our own code.
func luksKernel(p luks2.Pin, key luks2.VolumeKey, s blob.Source, write bool) *Kernel {
	if p.Cipher != cipher {
		return nil
	}
	plan, err := mapped.LUKS2(key.Expose(), p.Offset, p.Size, p.SectorSize)
	return kernelOn(plan, err, s, write)
}

func sealedKernel(key sealed.Key, f sealed.Facts, s blob.Source) *Kernel {
	keys, err := sealed.Derive(key, f.ID)
	if err != nil {
		return nil
	}
	defer clear(keys.Data[:])
	plan, err := mapped.Sealed(keys.Data[:], keys.Salt[:], f.Root[:], f.Size, s.Size())
	return kernelOn(plan, err, s, false)
}

func kernelOn(plan *mapped.Plan, err error, s blob.Source, write bool) *Kernel {
	if err != nil {
		return nil
	}
	b, err := newBlocks(s, write)
	if err != nil || b.Size()%int64(b.BlockSize()) != 0 {
		plan.Destroy()
		return nil
	}
	return &Kernel{plan, b}
}
