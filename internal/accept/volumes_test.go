// SPDX-License-Identifier: Apache-2.0

package accept

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/internal/volume/attach"
	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/blobtest"
	"cofferdam.dev/internal/volume/descriptor"
)

// What the application writes. None of it may be seen by the storage.
const (
	canary    = "the canary sings in the mine"
	tornWord  = "a page that the storage will tear"
	tornLines = 2000
)

// keeper is the application of a group with encrypted volumes: it says what it finds in them, and then writes.
const keeper = `exec 2>&1
trap 'exit 0' TERM
at=/mnt/remote
until test -e $at/book && test -e $at/notes; do sleep 0.2; done
for v in book notes; do
	if test -e $at/$v/log; then
		echo "$v remembers: $(cat $at/$v/log)"
		cat $at/$v/torn > /dev/null && echo "$v is whole"
	else
		i=0; while [ $i -lt ` + "TORN_LINES" + ` ]; do echo "TORN_WORD $i"; i=$((i+1)); done > $at/$v/torn
	fi
	echo "CANARY, in $v" >> $at/$v/log
done
sync
echo done
sleep 100000 & wait`

// kept is a group with volumes on storage that nobody trusts, and what is around it.
type kept struct {
	t *testing.T
	// The group's state directory, the data owner's, and another one of hers.
	home, owner, dir string
	store            *blobtest.Server
	// The services that the group must reach, as it knows them.
	attestation, vault, storage string
	issuer                      string
}

// TestVolumesWritten has a group write to volumes of both formats on remote storage, through the filesystem sidecar: what was
// written is there when the group is started again, the storage sees nothing of it, a block that the storage has changed is
// an error for whoever reads it, and a volume that was put back is refused.
func TestVolumesWritten(t *testing.T) {
	t.Parallel()
	needVM(t)
	testcap.Require(t, testcap.E2fsprogs)
	k := &kept{t: t, home: home(t), owner: home(t), dir: t.TempDir(), store: blobtest.New()}
	t.Cleanup(k.store.Close)
	k.storage = k.inside("http", k.store.URL)
	k.serve()
	k.key()
	book, notes := k.volume("book", "shadow"), k.volume("notes", "luks2")
	first := k.store.Content(blobPath("book"))
	k.up(book, notes)
	k.logged("done")
	k.command("group", "stop", "--timeout", "2m", "kept")
	k.unseen()
	k.tear(book)
	k.command("group", "start", "kept")
	k.again()
	k.rollback(first)
	k.command("group", "down", "kept")
	nothingLeft(t, k.home)
}

func blobPath(name string) string { return "/account/c/" + name + ".img" }

func (k *kept) command(args ...string) string {
	k.t.Helper()
	return must(k.t, k.home, args...).stdout
}

// owned is a command of the data owner's.
func (k *kept) owned(args ...string) string {
	k.t.Helper()
	return must(k.t, k.owner, args...).stdout
}

func (k *kept) ok(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

func (k *kept) file(name string) string { return filepath.Join(k.dir, name) }

// inside is a URL of this machine as groups know it.
func (k *kept) inside(scheme, at string) string {
	k.t.Helper()
	u, err := url.Parse(at)
	k.ok(err)
	return scheme + "://" + net.JoinHostPort("host.cofferdam.internal", u.Port())
}

// serve starts the data owner's services, until the end of the test.
func (k *kept) serve() {
	k.t.Helper()
	ctx, end := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, testcap.Bin("cofferdam"), "serve", "all", "--development", "--attestation", "127.0.0.1:0", "--vault", "127.0.0.1:0", "--no-broker")
	cmd.Env = append(os.Environ(), "COFFERDAM_HOME="+k.owner)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	log, err := os.Create(k.file("domain.log"))
	k.ok(err)
	cmd.Stderr = log
	k.ok(cmd.Start())
	k.t.Cleanup(func() {
		end()
		_ = cmd.Wait() // it was interrupted
		_ = log.Close()
	})
	var doc struct {
		Attestation struct{ GuestURL, SimulatedIssuer string }
		Vault       struct{ GuestURL string }
	}
	eventually(k.t, "the data owner's services answer", func() error {
		b, err := os.ReadFile(filepath.Join(k.owner, "domain", "domain.json"))
		if err != nil {
			return err
		}
		return json.Unmarshal(b, &doc)
	})
	k.attestation, k.vault, k.issuer = doc.Attestation.GuestURL, doc.Vault.GuestURL, doc.Attestation.SimulatedIssuer
}

// key makes the key of both volumes.
func (k *kept) key() {
	k.t.Helper()
	b := bytes.Repeat([]byte("a key of tests, "), 2)
	k.ok(os.WriteFile(k.file("key"), b, 0o600))
	jwk := fmt.Sprintf(`{"kty":"oct","k":%q}`, base64.RawURLEncoding.EncodeToString(b))
	k.ok(os.WriteFile(k.file("key.jwk"), []byte(jwk), 0o600))
}

// volume makes an empty filesystem in a volume, and brings it to the storage. It returns its descriptor.
func (k *kept) volume(name, format string) json.RawMessage {
	k.t.Helper()
	image := k.file(name + ".img")
	empty := k.t.TempDir()
	args := []string{
		"volume", "encrypt", empty, image, "--format", format, "--size", "16MiB", "--key-file", k.file("key"), "--kid", "records",
		"--key-vault", strings.TrimPrefix(k.vault, "https://"), "--authority", strings.TrimPrefix(k.attestation, "https://"),
	}
	if format == "shadow" {
		args = append(args, "--anchor", "vault", "--anchor-vault", k.vault)
	}
	k.owned(args...)
	k.owned("volume", "upload", image, "azure+"+k.store.URL+blobPath(name))
	d, err := os.ReadFile(image + ".json")
	k.ok(err)
	return d
}

// up starts the group, to which alone the key is released.
func (k *kept) up(book, notes json.RawMessage) {
	k.t.Helper()
	config := map[string]any{"azure_filesystems": []any{k.filesystem("book", book), k.filesystem("notes", notes)}}
	args, err := json.Marshal(config)
	k.ok(err)
	template := k.file("template.json")
	k.ok(os.WriteFile(template, k.template(base64.StdEncoding.EncodeToString(args)), 0o600))
	from := []string{template, "--sidecar-image", ref("sidecar"), "--memory", "640m"}
	var plan struct {
		Hash string `json:"policy_hash"`
	}
	k.ok(json.Unmarshal([]byte(k.command(append([]string{"group", "plan", "-o", "json"}, from...)...)), &plan))
	policy := k.owned("key", "policy", "make", "--authority", k.issuer, "--host-data", plan.Hash)
	k.ok(os.WriteFile(k.file("release.json"), []byte(policy), 0o600))
	k.owned("key", "import", "records", k.file("key.jwk"), "--exportable", "--release-policy", k.file("release.json"))
	for _, at := range []string{k.attestation, k.vault, k.storage} {
		u, err := url.Parse(at)
		k.ok(err)
		from = append(from, "--host-port", u.Port())
	}
	ended(k.t, k.home, "kept")
	k.command(append([]string{"group", "up"}, from...)...)
}

func (k *kept) filesystem(name string, d json.RawMessage) map[string]any {
	return map[string]any{
		"azure_url": "azure+" + k.storage + blobPath(name), "mount_point": "/mnt/remote/" + name, "read_write": true,
		"x-cofferdam": map[string]any{"descriptor": d},
	}
}

// template is the group, as it would be on Azure.
func (k *kept) template(config string) []byte {
	k.t.Helper()
	ca, err := os.ReadFile(filepath.Join(k.owner, "domain", "ca.pem"))
	k.ok(err)
	secret, err := os.ReadFile(filepath.Join(k.owner, "domain", "clients", "app.secret"))
	k.ok(err)
	script := strings.NewReplacer("TORN_LINES", fmt.Sprint(tornLines), "TORN_WORD", tornWord, "CANARY", canary).Replace(keeper)
	mounts := []any{map[string]any{"name": "remotemounts", "mountPath": "/mnt/remote"}}
	var env []any
	for _, v := range [][2]string{
		{"EncfsSideCarArgs", config}, {"LogFile", ""}, {"COFFERDAM_AUTHORITIES", base64.StdEncoding.EncodeToString(ca)},
		{"AZURE_TENANT_ID", "development"}, {"AZURE_CLIENT_ID", "app"}, {"AZURE_CLIENT_SECRET", strings.TrimSpace(string(secret))},
		{"AZURE_AUTHORITY_HOST", k.vault},
	} {
		env = append(env, map[string]any{"name": v[0], "value": v[1]})
	}
	size := func(gb float64) map[string]any {
		return map[string]any{"requests": map[string]any{"cpu": 1, "memoryInGB": gb}}
	}
	b, err := json.Marshal(map[string]any{
		"$schema":        "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
		"contentVersion": "1.0.0.0",
		"resources": []any{map[string]any{
			"type": "Microsoft.ContainerInstance/containerGroups", "apiVersion": "2023-05-01", "name": "kept", "location": "westeurope",
			"properties": map[string]any{
				"sku": "Confidential", "osType": "Linux", "restartPolicy": "Never", "confidentialComputeProperties": map[string]any{},
				"volumes": []any{map[string]any{"name": "remotemounts", "emptyDir": map[string]any{}}},
				"containers": []any{
					map[string]any{"name": "application", "properties": map[string]any{
						"image": ref("busybox"), "command": []string{"sh", "-c", script}, "volumeMounts": mounts, "resources": size(0.3),
					}},
					map[string]any{"name": "encfs", "properties": map[string]any{
						"image": "mcr.microsoft.com/aci/encfs:2.12", "command": []string{"/encfs.sh"}, "securityContext": map[string]any{"privileged": true},
						"environmentVariables": env, "volumeMounts": mounts, "resources": size(0.5),
					}},
				},
			},
		}},
	})
	k.ok(err)
	return b
}

// logged waits until the application has written a line, and returns all that it has written.
func (k *kept) logged(text string) string {
	k.t.Helper()
	var all string
	eventually(k.t, "the application writes", func() error {
		r := cofferdam(k.t, k.home, "", "group", "logs", "--container", "application", "kept")
		all = r.stdout + r.stderr
		if strings.Contains(all, text+"\n") {
			return nil
		}
		err := fmt.Errorf("%q is not in %q", text, all)
		if c := containerOf(k.t, k.home, "kept", "encfs"); c.State == group.StateExited {
			err = fmt.Errorf("%w; the sidecar has ended:\n%s", err, k.sidecar())
		}
		return err
	})
	return all
}

// sidecar is what the sidecar has written.
func (k *kept) sidecar() string {
	k.t.Helper()
	r := cofferdam(k.t, k.home, "", "group", "logs", "--container", "encfs", "kept")
	return r.stdout + r.stderr
}

// unseen looks at what the storage holds.
func (k *kept) unseen() {
	k.t.Helper()
	for _, name := range []string{"book", "notes"} {
		now := k.store.Content(blobPath(name))
		for _, word := range []string{canary, tornWord} {
			if bytes.Contains(now, []byte(word[:12])) {
				k.t.Errorf("the storage sees what was written to %s", name)
			}
		}
	}
}

// tear changes a bit of one block of a file in the volume, as the storage holds it: in both places that the format has for it.
func (k *kept) tear(d json.RawMessage) {
	k.t.Helper()
	const block = 4096
	at := k.find(d, fmt.Sprintf("%s %d\n", tornWord, tornLines/2)) / block
	k.store.Change(blobPath("book"), func(o *blobtest.Object) {
		for place := range int64(2) {
			o.Data[(16+256*(at/128)+128*place+at%128)*block+100] ^= 1
		}
	})
}

// find returns where in the shadow volume a text lies, as its owner can.
func (k *kept) find(d json.RawMessage, text string) int64 {
	k.t.Helper()
	copied := k.file("copy.img")
	k.ok(os.WriteFile(copied, k.store.Content(blobPath("book")), 0o600))
	described, err := descriptor.Parse(d)
	k.ok(err)
	secret, err := os.ReadFile(k.file("key"))
	k.ok(err)
	key, err := described.Open(secret, func(*descriptor.Slot) bool { return true })
	k.ok(err)
	src, err := blob.OpenFile(copied, false)
	k.ok(err)
	v, err := attach.Open(k.t.Context(), src, attach.Options{Descriptor: described, Key: key, WithoutAnchor: true})
	k.ok(err)
	all := make([]byte, v.Size())
	err = v.ReadAt(k.t.Context(), all, 0)
	k.ok(errors.Join(err, v.Close(k.t.Context())))
	at := bytes.Index(all, []byte(text))
	if at < 0 {
		k.t.Fatalf("%q is not in the volume", text)
	}
	return int64(at)
}

// again is the group's second life: all of it is there but the block that was changed.
func (k *kept) again() {
	k.t.Helper()
	eventually(k.t, "the group is started again", func() error {
		if r := record(k.t, k.home, "kept"); r.Runs != 2 {
			return fmt.Errorf("it has run %d times", r.Runs)
		}
		return nil
	})
	said := k.logged("notes is whole")
	for _, want := range []string{"book remembers: " + canary + ", in book\n", "notes remembers: " + canary + ", in notes\n", "Input/output error"} {
		if !strings.Contains(said, want) {
			k.t.Errorf("%q is not in what the application says:\n%s", want, said)
		}
	}
	if strings.Contains(said, "book is whole") {
		k.t.Error("a block that the storage has changed was read")
	}
	// The kernel knows LUKS2, and our code the rest. What the sidecar says comes by another way than what the application does.
	k.said("the storage returned what was not written there last", 1)
	k.said(`"kind":"shadow","authenticated":true,"anchored":true,"kernel":false`, 2)
	k.said(`"kind":"luks2","authenticated":false,"anchored":false,"kernel":true`, 2)
}

// said waits until the sidecar has said something so many times.
func (k *kept) said(text string, times int) {
	k.t.Helper()
	eventually(k.t, "the sidecar says it", func() error {
		log := k.sidecar()
		if n := strings.Count(log, text); n < times {
			return fmt.Errorf("%s is there %d times, want %d:\n%s", text, n, times, log)
		}
		return nil
	})
}

// rollback restarts the sidecar, and has the storage put the volume back to what it was at first when it is opened again.
func (k *kept) rollback(first []byte) {
	k.t.Helper()
	eventually(k.t, "the application is done", func() error {
		if n := strings.Count(k.logged("done"), "done\n"); n != 2 {
			return fmt.Errorf("it was done %d times", n)
		}
		return nil
	})
	var once sync.Once
	k.store.Misbehave(func(r *http.Request) blobtest.Fault {
		if r.Header.Get("X-Ms-Lease-Action") == "acquire" && r.URL.Path == blobPath("book") {
			once.Do(func() { k.store.Change(r.URL.Path, func(o *blobtest.Object) { o.Data = bytes.Clone(first) }) })
		}
		return blobtest.Fault{}
	})
	k.command("group", "restart", "kept", "--container", "encfs")
	eventually(k.t, "the sidecar gives up", func() error {
		if c := containerOf(k.t, k.home, "kept", "encfs"); c.State != group.StateExited || c.ExitCode == nil || *c.ExitCode != 1 {
			return fmt.Errorf("it is %s:\n%s", c.State, k.sidecar())
		}
		return nil
	})
	k.said("the storage holds an older state, or another history", 1)
}
