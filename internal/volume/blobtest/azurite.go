// SPDX-License-Identifier: Apache-2.0

package blobtest

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/testcap"
)

// Azurite is a running storage emulator, a program that is independent of ours, with one account and two containers:
// "private", and "public", whose blobs anybody may read.
type Azurite struct {
	// URL is the account's, with the scheme of Azure's protocol over plain HTTP.
	URL string
	// Account and Key are the account's name and its key in base64.
	Account, Key string

	base string
}

var listening = regexp.MustCompile(`listens on (http://127\.0\.0\.1:\d+)`)

// StartAzurite starts the emulator, which keeps everything in memory, until the test ends. It skips the test where the emulator
// is not installed.
func StartAzurite(t testing.TB) *Azurite {
	t.Helper()
	testcap.Require(t, testcap.Azurite)
	a := &Azurite{Account: "cofferdamtest", Key: base64.StdEncoding.EncodeToString([]byte("not a secret: a key for tests only"))}
	cmd := exec.Command("node", testcap.AzuriteProgram(), "--inMemoryPersistence", "--blobHost", "127.0.0.1", "--blobPort", "0", "--silent", "--disableTelemetry",
		"--skipApiVersionCheck") // newer clients speak newer versions than it knows
	cmd.Env = append(os.Environ(), "AZURITE_ACCOUNTS="+a.Account+":"+a.Key)
	cmd.Dir = t.TempDir()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	found := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				found <- m[1]
			}
		}
	}()
	select {
	case base := <-found:
		a.base = base + "/" + a.Account
	case <-time.After(2 * time.Minute):
		t.Fatal("Azurite does not listen after two minutes")
	}
	a.URL = "azure+" + a.base
	a.createContainer(t, "private", "")
	a.createContainer(t, "public", "blob")
	return a
}

// createContainer makes a container, with a request that it signs by itself.
func (a *Azurite) createContainer(t testing.TB, name, access string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, a.base+"/"+name+"?restype=container", nil)
	if err != nil {
		t.Fatal(err)
	}
	date := time.Now().UTC().Format(http.TimeFormat)
	headers := ""
	if access != "" {
		headers = "x-ms-blob-public-access:" + access + "\n"
		req.Header.Set("X-Ms-Blob-Public-Access", access)
	}
	req.Header.Set("X-Ms-Date", date)
	req.Header.Set("X-Ms-Version", "2021-12-02")
	text := "PUT" + strings.Repeat("\n", 12) + headers + "x-ms-date:" + date + "\nx-ms-version:2021-12-02\n/" + a.Account + req.URL.Path + "\nrestype:container"
	req.Header.Set("Authorization", "SharedKey "+a.Account+":"+a.mac(text))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close() // nothing is in it
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("creating container %s: answer %s", name, resp.Status)
	}
}

// SAS returns the query of a shared access signature for a container of the account, with permissions as in "rw".
func (a *Azurite) SAS(container, permissions string, until time.Time) string {
	const version = "2020-12-06"
	expires := until.UTC().Format(time.RFC3339)
	fields := []string{
		permissions, "", expires, "/blob/" + a.Account + "/" + container, "", "", "http,https", version, "c", "", "", "", "", "", "", "",
	}
	q := url.Values{"sp": {permissions}, "se": {expires}, "spr": {"http,https"}, "sv": {version}, "sr": {"c"}}
	q.Set("sig", a.mac(strings.Join(fields, "\n")))
	return q.Encode()
}

func (a *Azurite) mac(text string) string {
	key, _ := base64.StdEncoding.DecodeString(a.Key) // it was encoded above
	m := hmac.New(sha256.New, key)
	_, _ = fmt.Fprint(m, text) // a hash takes everything
	return base64.StdEncoding.EncodeToString(m.Sum(nil))
}
