// SPDX-License-Identifier: Apache-2.0

package storageclients

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	theirblob "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/lease"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/pageblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/blob/azure"
	"cofferdam.dev/internal/volume/blobtest"
)

// world is an emulator, with Azure's client for a container of it.
type world struct {
	url    string
	client *container.Client
	ours   blob.Options
}

func newWorld(t *testing.T) *world {
	t.Helper()
	a := blobtest.StartAzurite(t)
	key, err := azure.NewSharedKey(a.Account, blob.NewSecret(a.Key))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := container.NewSharedKeyCredential(a.Account, a.Key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := container.NewClientWithSharedKeyCredential(strings.TrimPrefix(a.URL, "azure+")+"/private", theirs, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &world{url: a.URL + "/private/", client: c, ours: blob.Options{AccountKey: key}}
}

func content(n int) []byte { return bytes.Repeat([]byte("cofferdam and azure "), n/20+1)[:n] }

func file(t *testing.T, p []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func all(t *testing.T, s blob.Source) []byte {
	t.Helper()
	p := make([]byte, s.Size())
	if _, err := s.ReadAt(t.Context(), p, 0); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestTheirsReadsOurs uploads with ours and downloads with theirs.
func TestTheirsReadsOurs(t *testing.T) {
	w := newWorld(t)
	want := content(9 << 20)
	for name, page := range map[string]bool{"block": false, "page": true} {
		if err := blob.Upload(t.Context(), file(t, want), w.url+name, blob.UploadOptions{Options: w.ours, PageBlob: page}); err != nil {
			t.Fatal(err)
		}
		answer, err := w.client.NewBlobClient(name).DownloadStream(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(answer.Body)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if m := answer.Metadata["cofferdamupload"]; m != nil {
			t.Errorf("%s: it is still marked as incomplete: %s", name, *m)
		}
	}
}

// TestOursReadsTheirs uploads with theirs, and reads with ours by the key and by signatures that theirs makes.
func TestOursReadsTheirs(t *testing.T) {
	w := newWorld(t)
	want := content(1 << 20)
	if _, err := w.client.NewBlockBlobClient("theirs").UploadBuffer(t.Context(), want, &blockblob.UploadBufferOptions{}); err != nil {
		t.Fatal(err)
	}
	blobClient := w.client.NewBlobClient("theirs")
	forBlob, err := blobClient.GetSASURL(sas.BlobPermissions{Read: true}, time.Now().Add(time.Hour), nil)
	if err != nil {
		t.Fatal(err)
	}
	forContainer, err := w.client.GetSASURL(sas.ContainerPermissions{Read: true}, time.Now().Add(time.Hour), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, query, _ := strings.Cut(forContainer, "?")
	for name, c := range map[string]struct {
		url string
		o   blob.Options
	}{
		"key":                 {w.url + "theirs", w.ours},
		"blob's signature":    {"azure+" + forBlob, blob.Options{}},
		"container signature": {w.url + "theirs?" + query, blob.Options{}},
	} {
		s, err := blob.Open(t.Context(), c.url, c.o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(all(t, s), want) {
			t.Errorf("%s: something else was read", name)
		}
	}
}

// TestFencesHold has theirs and ours take a page blob's lease from each other.
func TestFencesHold(t *testing.T) {
	w := newWorld(t)
	pages := w.client.NewPageBlobClient("fenced")
	if _, err := pages.Create(t.Context(), 1<<20, nil); err != nil {
		t.Fatal(err)
	}
	theirs, err := lease.NewBlobClient(pages, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.AcquireLease(t.Context(), 60, nil); err != nil {
		t.Fatal(err)
	}
	w.ours.Write = true
	if _, err := blob.OpenWritable(t.Context(), w.url+"fenced", w.ours); !errors.Is(err, blob.ErrBusy) {
		t.Errorf("while theirs has the lease: %v", err)
	}
	if _, err := theirs.ReleaseLease(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	ours, err := blob.OpenWritable(t.Context(), w.url+"fenced", w.ours)
	if err != nil {
		t.Fatal(err)
	}
	want := content(4096)
	if err := ours.WriteAt(t.Context(), want, 512); err != nil {
		t.Fatal(err)
	}
	put := func() error {
		body := streaming.NopCloser(bytes.NewReader(make([]byte, 512)))
		_, err := pages.UploadPages(t.Context(), body, pageRange(0, 512), nil)
		return err
	}
	if put() == nil {
		t.Error("theirs wrote while ours has the lease")
	}
	// The owner breaks our lease, and writes.
	if _, err := theirs.BreakLease(t.Context(), &lease.BlobBreakOptions{BreakPeriod: to.Ptr(int32(0))}); err != nil {
		t.Fatal(err)
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	if err := ours.WriteAt(t.Context(), want, 8192); !errors.Is(err, blob.ErrFenced) {
		t.Errorf("ours wrote after its lease was broken: %v", err)
	}
	if _, err := ours.ReadAt(t.Context(), make([]byte, 512), 0); !errors.Is(err, blob.ErrFenced) {
		t.Errorf("ours read after its lease was broken: %v", err)
	}
	if err := ours.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
}

func pageRange(off, n int64) theirblob.HTTPRange { return theirblob.HTTPRange{Offset: off, Count: n} }

// TestLateWriteIsRefused raises the sequence number as ours does, and has theirs send a write that still names the old one.
func TestLateWriteIsRefused(t *testing.T) {
	w := newWorld(t)
	pages := w.client.NewPageBlobClient("sequence")
	if _, err := pages.Create(t.Context(), 1<<20, nil); err != nil {
		t.Fatal(err)
	}
	_, err := pages.UpdateSequenceNumber(t.Context(), &pageblob.UpdateSequenceNumberOptions{
		ActionType: to.Ptr(pageblob.SequenceNumberActionTypeMax), SequenceNumber: to.Ptr(int64(1)),
	})
	if err != nil {
		t.Fatal(err)
	}
	body := streaming.NopCloser(bytes.NewReader(make([]byte, 512)))
	_, err = pages.UploadPages(t.Context(), body, pageRange(0, 512), &pageblob.UploadPagesOptions{
		SequenceNumberAccessConditions: &pageblob.SequenceNumberAccessConditions{IfSequenceNumberEqualTo: to.Ptr(int64(0))},
	})
	if err == nil || !strings.Contains(err.Error(), "SequenceNumberConditionNotMet") {
		t.Errorf("a write under the old number: %v", err)
	}
}
