// SPDX-License-Identifier: Apache-2.0

package volumecmd

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/keycmd"
	"cofferdam.dev/internal/vault/client"
	"cofferdam.dev/internal/volume/attach"
	"cofferdam.dev/internal/volume/descriptor"
	"cofferdam.dev/release"
)

// wrapped is what a vault is asked to wrap or to unwrap, and what it answers. Bytes are in base64url.
type wrapped struct {
	ID        string `json:"kid,omitempty"`
	Algorithm string `json:"alg,omitempty"`
	Value     string `json:"value"`
}

// wrap makes a random secret and has the vault wrap it: the vault alone can give it back.
func (o *volumeKeyOptions) wrap(ctx context.Context, a *App, cmd *cobra.Command) (attach.Opener, error) {
	vc, err := a.keys.VaultClient(cmd, o.asked, "")
	if err != nil {
		return attach.Opener{}, err
	}
	name, err := keycmd.ParseObject(cmd, keycmd.KeyKind, o.wrapKid, true)
	if err != nil {
		return attach.Opener{}, err
	}
	var k client.Key
	if _, err := vc.Do(ctx, http.MethodGet, "/keys/"+name.String(), nil, &k); err != nil {
		return attach.Opener{}, keycmd.VaultFailure(o.asked, keycmd.KeyKind, name.Name, err)
	}
	u := &descriptor.Unwrap{Vault: vc.URL}
	switch strings.TrimSuffix(k.Key.Type, "-HSM") {
	case "RSA":
		u.Algorithm = descriptor.RSAOAEP256
	case "oct":
		u.Algorithm = descriptor.A256KW
	default:
		return attach.Opener{}, console.Fixed(fmt.Errorf("the vault's key %s is of type %q, which wraps nothing", name, k.Key.Type), "a key of type RSA, or oct with 256 bits")
	}
	secret := make([]byte, descriptor.MinSecret)
	_, _ = rand.Read(secret) // never fails
	// The version is named, so that what wraps is what was looked at, and what unwraps later.
	name.Name, name.Version = client.NameOf(k.Key.ID)
	sealed, err := askWrap(ctx, vc, name, "wrapkey", u.Algorithm, secret)
	if err != nil {
		return attach.Opener{}, keycmd.VaultFailure(o.asked, keycmd.KeyKind, name.Name, err)
	}
	u.Kid, u.Value = name.String(), sealed
	return attach.Opener{Slot: descriptor.Slot{Kind: descriptor.UnwrapSlot, Unwrap: u}, Secret: secret}, nil
}

// openUnwrapped has the vault unwrap the secrets of the keys that one of its keys wrapped, until one opens. It is the vault
// that whoever asks has chosen: what a descriptor says is not proven yet, and the access token is for no stranger.
func (o *volumeKeyOptions) openUnwrapped(ctx context.Context, a *App, cmd *cobra.Command, d *descriptor.Descriptor) (descriptor.Key, int, error) {
	if o.keyFile != "" || o.passphraseFile != "" {
		return descriptor.Key{}, 0, console.Usage(cmd, "--unwrap stands alone: give no --key-file and no --passphrase-file")
	}
	said := ""
	for i := range d.Slots {
		if u := d.Slots[i].Unwrap; u != nil {
			said = u.Vault
		}
	}
	if said == "" {
		return descriptor.Key{}, 0, console.Fixed(errors.New("the volume has no key that a vault unwraps"), "--key-file or --passphrase-file; such a key is added by: cofferdam volume key add IMAGE --new-wrap-kid NAME")
	}
	if o.asked.Complete(a.keys); o.asked.Vault == "" {
		return descriptor.Key{}, 0, console.Usage(cmd, fmt.Sprintf("--vault is missing: the descriptor says %s, but nothing of it is proven yet", said))
	}
	vc, err := a.keys.VaultClient(cmd, o.asked, "")
	if err != nil {
		return descriptor.Key{}, 0, err
	}
	var refused error
	for i := range d.Slots {
		u := d.Slots[i].Unwrap
		if u == nil {
			continue
		}
		secret, err := unwrap(ctx, vc, u)
		if err != nil {
			refused = errors.Join(refused, fmt.Errorf("key %d, %s: %w", i, u.Kid, err))
			continue
		}
		key, err := d.OpenSlot(i, secret)
		clear(secret)
		if !errors.Is(err, descriptor.ErrKey) {
			return key, i, err
		}
	}
	if refused != nil {
		return descriptor.Key{}, 0, keycmd.VaultFailure(o.asked, keycmd.KeyKind, "", fmt.Errorf("having %s unwrap the secret (the descriptor says %s): %w", vc.URL, said, refused))
	}
	return descriptor.Key{}, 0, fmt.Errorf("what %s unwraps: %w", vc.URL, descriptor.ErrKey)
}

func unwrap(ctx context.Context, vc *client.Client, u *descriptor.Unwrap) ([]byte, error) {
	name, err := release.ParseKeyName(u.Kid)
	if err != nil {
		return nil, err
	}
	return askWrap(ctx, vc, name, "unwrapkey", u.Algorithm, u.Value)
}

// askWrap asks a vault to wrap or to unwrap with a key.
func askWrap(ctx context.Context, vc *client.Client, name release.KeyName, operation, algorithm string, value []byte) ([]byte, error) {
	var answer wrapped
	body := wrapped{Algorithm: algorithm, Value: base64.RawURLEncoding.EncodeToString(value)}
	if _, err := vc.Do(ctx, http.MethodPost, "/keys/"+name.String()+"/"+operation, body, &answer); err != nil {
		return nil, err
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(answer.Value, "="))
	if err != nil {
		return nil, errors.New("asking the vault: its answer is not in base64url") // the decoder's error may quote it
	}
	return b, nil
}
