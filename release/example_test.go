// SPDX-License-Identifier: Apache-2.0

package release_test

import (
	"context"
	"fmt"

	"cofferdam.dev/attest"
	"cofferdam.dev/release"
)

// A program in a container of a group has a key released to it, and to nobody who runs something else.
func ExampleClient_Release() {
	key, err := database(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(key) // prints its name; key.Symmetric() has the secret
}

func database(ctx context.Context) (*release.Key, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	guest, err := attest.OpenSocket(attest.SocketPath)
	if err != nil {
		return nil, err
	}
	pool, err := release.NewPool(1, release.DefaultWrappingBits)
	if err != nil {
		return nil, err
	}
	go func() { _ = pool.Run(ctx) }() // ends with ctx
	client, err := release.New(release.Options{Attester: release.FromProvider(guest), Pool: pool})
	if err != nil {
		return nil, err
	}
	name, err := release.ParseKeyName("database")
	if err != nil {
		return nil, err
	}
	return client.Release(ctx, &release.Request{
		Attestation: "attest.example", Vault: "keys.vault.example", Key: name, AccessToken: "of whoever asks",
	})
}
