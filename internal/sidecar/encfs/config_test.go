// SPDX-License-Identifier: Apache-2.0

package encfs

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
)

// original is the configuration of the original's example.
const original = `{
  "azure_info": {"certcache": {"endpoint_type": "LocalTHIM", "endpoint": "169.254.169.254/metadata/THIM/amd/certification", "tee_type": "SevSnpVM"}, "identity": {"client_id": "c"}},
  "azure_filesystems": [{
    "mount_point": "/mnt/remote/share", "azure_url": "https://account.blob.core.windows.net/private-container/encrypted.img", "azure_url_private": true, "read_write": true,
    "key": {"kid": "EncryptedFilesystemsContainer", "kty": "RSA-HSM", "key_ops": ["encrypt"], "authority": {"endpoint": "sharedneu.neu.attest.azure.net", "tee_type": "SevSnpVM", "api_version": "api-version=2020-10-01"}, "akv": {"endpoint": "avault.vault.azure.net", "api_version": "api-version=7.4"}},
    "key_derivation": {"salt": "92a631483ca875aad7e2477da755d58cac3876b77d10bcdd7b33bfa11e7d8b8e", "label": "Encryption Key"}
  }]
}`

func TestOriginal(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"plain": original, "base64": base64.StdEncoding.EncodeToString([]byte(original)), "base64url": base64.RawURLEncoding.EncodeToString([]byte(original)),
	} {
		c, err := ParseConfig(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		f := c.Filesystems[0]
		r, d, err := f.request()
		if err != nil || !f.Private || !f.ReadWrite || f.MountPoint != "/mnt/remote/share" || r.Attestation != "sharedneu.neu.attest.azure.net" ||
			r.Vault != "avault.vault.azure.net" || r.Key.Name != "EncryptedFilesystemsContainer" || d.Label != "Encryption Key" || len(d.Salt) != 64 {
			t.Errorf("%s: %+v, %+v, %+v (%v)", name, f, r, d, err)
		}
		var azure map[string]any
		if err := json.Unmarshal(c.Azure, &azure); err != nil || azure["identity"] == nil {
			t.Errorf("%s: %v (%v)", name, azure, err)
		}
	}
}

func TestRefusedConfigs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ from, to, want string }{
		"no filesystem":      {original, `{"azure_filesystems": []}`, "0 filesystems"},
		"nothing":            {original, ``, "empty"},
		"noise":              {original, `%%%`, "neither JSON nor base64"},
		"an unknown member":  {`"read_write"`, `"readwrite"`, "readwrite"},
		"a member twice":     {`"read_write": true`, `"read_write": true, "read_write": false`, "twice"},
		"no URL":             {`"azure_url": "https://account.blob.core.windows.net/private-container/encrypted.img"`, `"azure_url": ""`, "azure_url"},
		"a relative place":   {`/mnt/remote/share`, `mnt/remote/share`, "mount_point"},
		"a place at the top": {`/mnt/remote/share`, `/share`, "mount_point"},
		"the top":            {`/mnt/remote/share`, `/`, "mount_point"},
		"no key":             {`"kid": "EncryptedFilesystemsContainer"`, `"kid": ""`, "key is missing"},
		"a raw key": {`"read_write": true,
    "key": {"kid": "EncryptedFilesystemsContainer"`, `"raw_key": "00",
    "key": {"kid": ""`, "raw_key is refused"},
		"no vault":         {`avault.vault.azure.net`, ``, "akv.endpoint"},
		"no authority":     {`sharedneu.neu.attest.azure.net`, ``, "authority.endpoint"},
		"an anchor alone":  {`"azure_url_private": true`, `"x-cofferdam": {"anchor_directory": "/a"}`, "has no descriptor"},
		"a bad descriptor": {`"azure_url_private": true`, `"x-cofferdam": {"descriptor": {"schema": "x"}}`, "not a volume descriptor"},
		"something behind": {"}]\n}", "}]\n} x", "follows"},
	} {
		text := strings.Replace(original, c.from, c.to, 1)
		if c.from == original {
			text = c.to
		}
		if _, err := ParseConfig(text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add(original)
	f.Add(base64.StdEncoding.EncodeToString([]byte(original)))
	f.Add(`{"azure_filesystems":[{"x-cofferdam":{"descriptor":{}}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseConfig(text)
		if err != nil {
			return
		}
		for i := range c.Filesystems {
			_, _, _ = c.Filesystems[i].request() // does not panic
		}
	})
}
