// SPDX-License-Identifier: Apache-2.0

package encfs

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/blob/azure"
	"cofferdam.dev/internal/volume/blobtest"
	"cofferdam.dev/internal/volume/descriptor"
)

// remote puts the volume of a place into page blob storage, and returns how it is reached.
func (p *place) remote(t *testing.T, a *blobtest.Azurite) (url string, o blob.Options) {
	t.Helper()
	key, err := azure.NewSharedKey(a.Account, blob.NewSecret(a.Key))
	if err != nil {
		t.Fatal(err)
	}
	url, o = a.URL+"/private/"+string(p.d.Kind)+".img", blob.Options{AccountKey: key}
	if err := blob.Upload(t.Context(), p.image, url, blob.UploadOptions{Options: o, PageBlob: true}); err != nil {
		t.Fatal(err)
	}
	return url, o
}

// on returns a sidecar that mounts a remote volume.
func (p *place) on(t *testing.T, url string, o blob.Options, shared string, write bool) *Sidecar {
	t.Helper()
	s := p.sidecar(t, true, write, func(f map[string]any) {
		f["azure_url"], f["azure_url_private"], f["mount_point"] = url, true, filepath.Join(shared, "share")
	})
	s.opts.Private = o
	return s
}

// TestRemote has volumes in an independent server's page blobs: written under a lease, which keeps a second writer out, and
// read again.
func TestRemote(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a storage server")
	}
	t.Parallel()
	a := blobtest.StartAzurite(t)
	for _, kind := range []descriptor.Kind{descriptor.Shadow, descriptor.LUKS2} {
		t.Run(string(kind), func(t *testing.T) {
			p := newPlace(t, kind)
			url, o := p.remote(t, a)
			one := p.on(t, url, o, p.shared, true)
			if err := one.Mount(t.Context()); err != nil {
				t.Fatal(err)
			}
			content := bytes.Repeat([]byte("the canary sings in the mine"), 10000)
			if err := os.WriteFile(filepath.Join(p.shared, "share", "new"), content, 0o600); err != nil {
				t.Fatal(err)
			}
			if src, err := blob.OpenWritable(t.Context(), url, o); !errors.Is(err, blob.ErrBusy) {
				t.Errorf("a second writer: %v, %v", src, err)
			}
			if err := one.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			again := p.on(t, url, o, p.shared, false)
			if err := again.Mount(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(p.shared, "share", "new")); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes (%v)", len(got), err)
			}
			status, err := json.Marshal(again.Status())
			if err != nil || bytes.Contains(status, []byte(a.Key)) {
				t.Errorf("%s (%v)", status, err)
			}
			if err := again.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}
