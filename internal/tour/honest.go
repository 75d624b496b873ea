// SPDX-License-Identifier: Apache-2.0

package tour

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"cofferdam.dev/internal/assemble"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/guestimage"
	"cofferdam.dev/internal/image"
	"cofferdam.dev/internal/layer"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/policy"
)

func (t *tour) openImage(ctx context.Context, s *Step) error {
	var err error
	t.image, err = image.Open(ctx, t.cfg.Reference, image.Options{Dir: filepath.Join(t.cfg.Home, "images")})
	if err != nil {
		return err
	}
	c := t.image.Config()
	s.add("reference", "%s", t.cfg.Reference)
	s.add("digest", "%s", t.image.Digest())
	s.add("command", "%s", plain.Command(slices.Concat(c.Entrypoint, c.Cmd)))
	s.add("user", "%s", c.User)
	return nil
}

func (t *tour) convert(ctx context.Context, s *Step) error {
	cache, err := layer.OpenCache(filepath.Join(t.cfg.Home, "layers"))
	if err != nil {
		return err
	}
	t.begin("converting layers")
	t.entries, err = cache.GetAll(ctx, layer.Sources(t.image.Layers()), nil)
	if err != nil {
		return err
	}
	for i, e := range t.entries {
		err = cache.Verify(ctx, e) // what the cache holds may be old: the root hash is computed again
		if err != nil {
			return err
		}
		s.add(fmt.Sprintf("layer %d", i), "%x (%.1f MiB)", e.RootHash, float64(e.Size)/(1<<20))
	}
	s.add("scheme", "%s", layer.Scheme)
	return nil
}

func (t *tour) writePolicy(_ context.Context, s *Step) error {
	var err error
	t.spec, err = t.describe(allowedCommand)
	if err != nil {
		return err
	}
	t.parts, t.text, t.hash, err = t.policyFor(t.spec)
	if err != nil {
		return err
	}
	p, err := policy.Parse(t.text)
	if err != nil {
		return fmt.Errorf("reading the policy back: %w", err)
	}
	if !bytes.Equal(p.Text(), t.text) || len(p.Containers) != 1 || len(p.Containers[0].Layers) != len(t.entries) {
		return errors.New("the policy reads back as another one")
	}
	c := p.Containers[0]
	s.add("command", "%s", plain.Command(c.Command))
	s.add("layers", "%d, pinned by root hash", len(c.Layers))
	s.add("further commands", "%s", plain.Command(allowedCommand))
	s.add("text", "%d bytes, in the form of confcom", len(t.text))
	s.add("policy hash", "%x", t.hash)
	return nil
}

func (t *tour) measure(ctx context.Context, s *Step) error {
	var err error
	t.guest, err = guestimage.Current(t.cfg.Home)
	if err != nil {
		return err
	}
	t.begin("reading the guest image")
	err = t.guest.Verify(ctx)
	if err != nil {
		return err
	}
	t.emulator, err = qemu.Probe(ctx, "")
	if err != nil {
		return err
	}
	t.choice, err = qemu.Choose(t.cfg.Accelerator, qemu.Simulated, qemu.DetectHost("/"), t.emulator, nil)
	if err != nil {
		return err
	}
	t.boot, err = assemble.Boot(t.guest, t.choice.TEE, t.choice.Accelerator, "", vcpus)
	if err != nil {
		return err
	}
	b, err := hex.DecodeString(t.boot.Measurement)
	if err != nil || len(b) != len(t.expected) {
		return fmt.Errorf("the reference value is %q, not %d bytes", t.boot.Measurement, len(t.expected))
	}
	t.expected = [48]byte(b)
	s.add("guest image", "%x", t.guest.Digest())
	s.add("kernel", "%s %s", t.guest.Manifest().Kernel.Package, t.guest.Manifest().Kernel.Version)
	s.add("launch digest", "%s", t.boot.Measurement)
	return nil
}

func (t *tour) launch(ctx context.Context, s *Step) error {
	plan := assemble.Group(t.spec, t.parts, t.text, t.choice, t.boot, t.guest.Digest())
	plan.QEMU, plan.Remove = t.emulator.Path, true
	plan.Ports = []group.Port{{Protocol: "tcp", HostIP: "127.0.0.1", GuestPort: redisPort}} // any free port of ours
	s.add("TEE", "%s (no hardware protection), accelerator %s", t.choice.TEE, t.choice.Accelerator)
	return t.start(ctx, s, plan, nil)
}
