// SPDX-License-Identifier: Apache-2.0

package encfs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/internal/volume/anchor"
	"cofferdam.dev/internal/volume/attach"
	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/descriptor"
	"cofferdam.dev/internal/volume/fusefile"
	"cofferdam.dev/release"
)

// vault releases one secret, when it is asked for the right key.
type vault struct {
	secret []byte
	asked  []*release.Request
	fail   []error // of the next requests
}

func (v *vault) Secret(_ context.Context, r *release.Request, _ Derivation) ([]byte, error) {
	v.asked = append(v.asked, r)
	if len(v.fail) > 0 {
		err := v.fail[0]
		v.fail = v.fail[1:]
		return nil, err
	}
	if r.Key.Name != "data" {
		return nil, release.ErrForbidden
	}
	return bytes.Clone(v.secret), nil
}

// place is a directory with an image, and what opens it.
type place struct {
	dir, image, shared, anchors string
	d                           *descriptor.Descriptor
	vault                       *vault
}

// newPlace makes a volume with a filesystem in it, that a vault's key opens.
func newPlace(t *testing.T, kind descriptor.Kind) *place {
	t.Helper()
	testcap.Require(t, testcap.Root, testcap.FUSE, testcap.Loop, testcap.E2fsprogs)
	p := &place{dir: t.TempDir(), vault: &vault{secret: bytes.Repeat([]byte("0123456789abcdef"), 2)}}
	p.image, p.shared, p.anchors = filepath.Join(p.dir, "image"), filepath.Join(p.dir, "shared"), filepath.Join(p.dir, "anchors")
	slot := descriptor.Slot{Kind: descriptor.VaultSlot, Vault: &descriptor.VaultKey{Vault: "vault.example", Authority: "attest.example", Kid: "data", Type: "oct-HSM"}}
	n := attach.New{Kind: kind, Size: 16 << 20, Now: time.Now(), Anchor: descriptor.Anchor{Kind: descriptor.NoAnchor}, Openers: []attach.Opener{{Slot: slot, Secret: p.vault.secret}}}
	records, err := anchor.NewDir(p.anchors)
	if err != nil {
		t.Fatal(err)
	}
	if kind == descriptor.Shadow {
		n.Anchor.Kind, n.Records = descriptor.FileAnchor, records
	}
	size, err := n.ImageSize()
	if err := errors.Join(err, os.Mkdir(p.shared, 0o755), os.WriteFile(p.image, nil, 0o600), os.Truncate(p.image, size)); err != nil {
		t.Fatal(err)
	}
	d, key, err := attach.Create(t.Context(), p.image, n)
	if err != nil {
		t.Fatal(err)
	}
	p.d = d
	src, err := blob.Open(t.Context(), p.image, blob.Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	o := attach.Options{Descriptor: d, Key: key, Write: true}
	if kind == descriptor.Shadow {
		o.Anchor = records
	}
	v, err := attach.Open(t.Context(), src, o)
	if err != nil {
		t.Fatal(err)
	}
	p.format(t, v)
	return p
}

func (p *place) format(t *testing.T, v *attach.Volume) {
	t.Helper()
	content := t.TempDir()
	m, err := fusefile.Serve(t.TempDir(), v, fusefile.Options{Write: true})
	if err := errors.Join(err, os.WriteFile(filepath.Join(content, "canary"), []byte("sings"), 0o644)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("mke2fs", "-q", "-F", "-t", "ext4", "-d", content, m.Path()).CombinedOutput()
	if err := errors.Join(err, m.Close(), v.Close(t.Context())); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// filesystem is the configuration of the volume at a mount point; the change is applied to its JSON.
func (p *place) sidecar(t *testing.T, described, write bool, change func(f map[string]any)) *Sidecar {
	t.Helper()
	f := map[string]any{
		"azure_url": "file://" + p.image, "mount_point": filepath.Join(p.shared, "share"), "read_write": write,
		"key": map[string]any{"kid": "data", "authority": map[string]any{"endpoint": "attest.example"}, "akv": map[string]any{"endpoint": "vault.example"}},
	}
	if described {
		f["x-cofferdam"] = map[string]any{"descriptor": p.d}
		if p.d.Anchor.Kind == descriptor.FileAnchor {
			f["x-cofferdam"] = map[string]any{"descriptor": p.d, "anchor_directory": p.anchors}
		}
	}
	if change != nil {
		change(f)
	}
	text, err := json.Marshal(map[string]any{"azure_filesystems": []any{f}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig(string(text))
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Config: c, Releaser: p.vault, Files: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) }) // in case that the test failed
	return s
}

func TestMountWriteUnmount(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind      descriptor.Kind
		described bool
	}{{descriptor.Shadow, true}, {descriptor.LUKS2, true}, {descriptor.LUKS2, false}} {
		p := newPlace(t, c.kind)
		link := filepath.Join(p.shared, "share")
		s := p.sidecar(t, c.described, true, nil)
		if s.Ready(t.Context()) == nil {
			t.Error("it is ready before it has mounted")
		}
		if err := s.Mount(t.Context()); err != nil {
			t.Fatal(err)
		}
		if to, err := os.Readlink(link); err != nil || to != ".filesystem-0" {
			t.Errorf("the link leads to %q (%v)", to, err)
		}
		if b, err := os.ReadFile(filepath.Join(link, "canary")); err != nil || string(b) != "sings" {
			t.Errorf("read %q (%v)", b, err)
		}
		st := s.Status()[0]
		if s.Ready(t.Context()) != nil || st.Filesystem != "ext4" || st.Volume.Pinned != c.described || st.Volume.Authenticated != (c.kind == descriptor.Shadow) {
			t.Errorf("%+v, %+v", st, st.Volume)
		}
		// A file in a group is no anchor against the group's host.
		if st.Volume.Anchored || slices.Contains(st.Volume.Warnings, fileAnchorWarning) != (c.kind == descriptor.Shadow) {
			t.Errorf("what is said of the anchor: %+v", st.Volume)
		}
		if err := os.WriteFile(filepath.Join(link, "new"), []byte("written"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(p.shared); err != nil || len(left) > 0 || s.Status()[0].State != Unmounted {
			t.Errorf("%v is left (%v), %+v", left, err, s.Status())
		}
		s = p.sidecar(t, c.described, false, nil)
		if err := s.Mount(t.Context()); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(link, "new")); err != nil || string(b) != "written" {
			t.Errorf("read %q (%v)", b, err)
		}
		if err := os.WriteFile(filepath.Join(link, "new"), nil, 0o644); !errors.Is(err, unix.EROFS) {
			t.Errorf("what is only read is written: %v", err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// What is not right is refused, says why, and leaves nothing.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind   descriptor.Kind
		change func(f map[string]any)
		attack func(*place)
		want   error
	}{
		"another key":                  {descriptor.Shadow, func(f map[string]any) { f["key"].(map[string]any)["kid"] = "other" }, nil, release.ErrForbidden},
		"the secret of another volume": {descriptor.Shadow, nil, func(p *place) { p.vault.secret = bytes.Repeat([]byte("fedcba9876543210"), 2) }, descriptor.ErrKey},
		"no anchor": {descriptor.Shadow, func(f map[string]any) {
			f["x-cofferdam"] = map[string]any{"descriptor": f["x-cofferdam"].(map[string]any)["descriptor"]}
		}, nil, attach.ErrAnchorMissing},
		"no image":      {descriptor.Shadow, nil, func(p *place) { _ = os.Remove(p.image) }, blob.ErrNotFound},
		"no descriptor": {descriptor.Shadow, func(f map[string]any) { delete(f, "x-cofferdam") }, nil, nil},
		"a header of the host": {descriptor.LUKS2, nil, func(p *place) {
			n := attach.New{Kind: descriptor.LUKS2, Size: 16 << 20, Now: time.Now(), Anchor: descriptor.Anchor{Kind: descriptor.NoAnchor},
				Openers: []attach.Opener{{Slot: descriptor.Slot{Kind: descriptor.FileSlot}, Secret: p.vault.secret}}}
			_, _, _ = attach.Create(context.Background(), p.image, n)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, c.kind)
			if c.attack != nil {
				c.attack(p)
			}
			s := p.sidecar(t, true, true, c.change)
			err := s.Mount(t.Context())
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if st := s.Status()[0]; st.State != Failed || st.Error == "" {
				t.Errorf("%+v", st)
			}
			if left, err := os.ReadDir(p.shared); err != nil || len(left) > 0 {
				t.Errorf("%v is left (%v)", left, err)
			}
		})
	}
}

// A vault that can not answer yet is asked again.
func TestPatience(t *testing.T) {
	t.Parallel()
	p := newPlace(t, descriptor.Shadow)
	p.vault.fail = []error{release.ErrUnavailable}
	s := p.sidecar(t, true, false, nil)
	if err := s.Mount(t.Context()); err != nil || len(p.vault.asked) != 2 {
		t.Errorf("%d requests, %v", len(p.vault.asked), err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A sidecar takes the place of one that was killed, and shows its status without secrets.
func TestAgain(t *testing.T) {
	t.Parallel()
	p := newPlace(t, descriptor.Shadow)
	first := p.sidecar(t, true, false, nil)
	if err := first.Mount(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := p.sidecar(t, true, false, nil)
	if err := second.Mount(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(p.shared, "share", "canary")); err != nil || string(b) != "sings" {
		t.Errorf("read %q (%v)", b, err)
	}
	w := httptest.NewRecorder()
	second.ServeHTTP(w, httptest.NewRequest("GET", "/status", nil))
	text := w.Body.String()
	if w.Code != 200 || !strings.Contains(text, `"ready": true`) || !strings.Contains(text, `"authenticated": true`) || strings.Contains(text, "0123456789abcdef") {
		t.Errorf("%d %s", w.Code, text)
	}
	if err := errors.Join(second.Close(t.Context()), first.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
}
