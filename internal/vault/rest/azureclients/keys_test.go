// SPDX-License-Identifier: Apache-2.0

package azureclients

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

// isRefused requires an error of the service.
func isRefused(t *testing.T, err error, status int, code string) {
	t.Helper()
	var e *azcore.ResponseError
	if !errors.As(err, &e) || e.StatusCode != status || e.ErrorCode != code {
		t.Errorf("%v; want %d %s", err, status, code)
	}
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	_, err := w.keys(t, "app", "another-secret-of-enough-length").GetKey(t.Context(), "k", "", nil)
	var failed *azidentity.AuthenticationFailedError
	if !errors.As(err, &failed) {
		t.Errorf("a wrong secret: %v", err)
	}
	_, err = w.keys(t, "reader", secret).CreateKey(t.Context(), "k", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeEC)}, nil)
	isRefused(t, err, 403, "Forbidden")
	_, err = w.keys(t, "reader", secret).GetKey(t.Context(), "k", "", nil)
	isRefused(t, err, 404, "KeyNotFound")
}

func TestKeyLife(t *testing.T) {
	t.Parallel()
	for _, managed := range []bool{false, true} {
		t.Run(fmt.Sprintf("managed %v", managed), func(t *testing.T) {
			t.Parallel()
			c := newWorld(t, managed).keys(t, "app", secret)
			ctx := t.Context()
			expires := time.Now().Add(time.Hour).Truncate(time.Second).UTC()
			created, err := c.CreateKey(ctx, "life", azkeys.CreateKeyParameters{
				Kty: ptr(azkeys.KeyTypeRSA), KeySize: ptr(int32(2048)), Tags: map[string]*string{"a": ptr("b")},
				KeyAttributes: &azkeys.KeyAttributes{Expires: &expires}, KeyOps: []*azkeys.KeyOperation{ptr(azkeys.KeyOperationSign)},
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if created.Key.KID.Name() != "life" || len(created.Key.KID.Version()) != 32 || len(created.Key.N) != 256 || !created.Attributes.Expires.Equal(expires) ||
				*created.Tags["a"] != "b" || len(created.Key.KeyOps) != 1 || !*created.Attributes.Enabled {
				t.Errorf("%+v", created)
			}
			rotated, err := c.RotateKey(ctx, "life", nil)
			if err != nil {
				t.Fatal(err)
			}
			updated, err := c.UpdateKey(ctx, "life", rotated.Key.KID.Version(), azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: ptr(false)}}, nil)
			if err != nil || *updated.Attributes.Enabled {
				t.Errorf("%+v, %v", updated, err)
			}
			got, err := c.GetKey(ctx, "life", created.Key.KID.Version(), nil)
			if err != nil || *got.Key.KID != *created.Key.KID {
				t.Errorf("%+v, %v", got, err)
			}
			if _, err := c.DeleteKey(ctx, "life", nil); err != nil {
				t.Error(err)
			}
			_, err = c.GetKey(ctx, "life", "", nil)
			isRefused(t, err, 404, "KeyNotFound")
			deleted, err := c.GetDeletedKey(ctx, "life", nil)
			if err != nil || !strings.HasSuffix(*deleted.RecoveryID, "/deletedkeys/life") || deleted.ScheduledPurgeDate.Before(time.Now()) {
				t.Errorf("%+v, %v", deleted, err)
			}
			if _, err := c.RecoverDeletedKey(ctx, "life", nil); err != nil {
				t.Error(err)
			}
			if _, err := c.DeleteKey(ctx, "life", nil); err != nil {
				t.Error(err)
			}
			if _, err := c.PurgeDeletedKey(ctx, "life", nil); err != nil {
				t.Error(err)
			}
			_, err = c.GetDeletedKey(ctx, "life", nil)
			isRefused(t, err, 404, "KeyNotFound")
		})
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	c := newWorld(t, false).keys(t, "app", secret)
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	imported, err := c.ImportKey(t.Context(), "imported", azkeys.ImportKeyParameters{
		Key: &azkeys.JSONWebKey{Kty: ptr(azkeys.KeyTypeEC), Crv: ptr(azkeys.CurveNameP384), D: d, X: point[1:49], Y: point[49:]}, HSM: ptr(true),
	}, nil)
	if err != nil || *imported.Key.Kty != azkeys.KeyTypeECHSM || string(imported.Key.X) != string(point[1:49]) || imported.Key.D != nil {
		b, _ := json.Marshal(imported.KeyBundle)
		t.Errorf("%s, %v", b, err)
	}
	oct, err := c.ImportKey(t.Context(), "oct", azkeys.ImportKeyParameters{Key: &azkeys.JSONWebKey{Kty: ptr(azkeys.KeyTypeOct), K: []byte("sixteen bytes ok")}}, nil)
	if err != nil || *oct.Key.Kty != azkeys.KeyTypeOct || oct.Key.K != nil {
		t.Errorf("%+v, %v", oct, err)
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	c := newWorld(t, false).keys(t, "app", secret)
	const n = 30 // more than a page
	for i := range n {
		if _, err := c.CreateKey(t.Context(), fmt.Sprintf("k%d", i), azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeOct)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	pages := 0
	for p := c.NewListKeyPropertiesPager(nil); p.More(); pages++ {
		page, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range page.Value {
			seen[k.KID.Name()] = true
		}
	}
	if len(seen) != n || pages != 2 {
		t.Errorf("%d keys on %d pages", len(seen), pages)
	}
	versions := 0
	for p := c.NewListKeyPropertiesVersionsPager("k0", nil); p.More(); {
		page, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		versions += len(page.Value)
	}
	if versions != 1 {
		t.Errorf("%d versions", versions)
	}
	random, err := c.GetRandomBytes(t.Context(), azkeys.GetRandomBytesParameters{Count: ptr(int32(32))}, nil)
	if err != nil || len(random.Value) != 32 {
		t.Errorf("%+v, %v", random, err)
	}
}

// TestRotationPolicy sets a policy with Azure's client, and reads it back.
func TestRotationPolicy(t *testing.T) {
	t.Parallel()
	for _, managed := range []bool{false, true} {
		t.Run(fmt.Sprintf("managed %v", managed), func(t *testing.T) {
			t.Parallel()
			c := newWorld(t, managed).keys(t, "app", secret)
			if _, err := c.CreateKey(t.Context(), "k", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeEC)}, nil); err != nil {
				t.Fatal(err)
			}
			got, err := c.GetKeyRotationPolicy(t.Context(), "k", nil)
			if err != nil || len(got.LifetimeActions) != 1 || *got.LifetimeActions[0].Action.Type != azkeys.KeyRotationPolicyActionNotify {
				t.Errorf("by default: %+v, %v", got, err)
			}
			set, err := c.UpdateKeyRotationPolicy(t.Context(), "k", azkeys.KeyRotationPolicy{
				Attributes: &azkeys.KeyRotationPolicyAttributes{ExpiryTime: ptr("P2Y")},
				LifetimeActions: []*azkeys.LifetimeAction{{
					Action: &azkeys.LifetimeActionType{Type: ptr(azkeys.KeyRotationPolicyActionRotate)}, Trigger: &azkeys.LifetimeActionTrigger{TimeBeforeExpiry: ptr("P30D")},
				}},
			}, nil)
			if err != nil || *set.Attributes.ExpiryTime != "P2Y" || set.Attributes.Created == nil || len(set.LifetimeActions) != 1 ||
				*set.LifetimeActions[0].Trigger.TimeBeforeExpiry != "P30D" || !strings.HasSuffix(*set.ID, "/keys/k/rotationpolicy") {
				t.Errorf("%+v, %v", set, err)
			}
			rotated, err := c.RotateKey(t.Context(), "k", nil)
			if err != nil || rotated.Attributes.Expires == nil || rotated.Attributes.Expires.Before(time.Now().AddDate(1, 11, 0)) {
				t.Errorf("%+v, %v", rotated, err)
			}
			_, err = c.UpdateKeyRotationPolicy(t.Context(), "k", azkeys.KeyRotationPolicy{Attributes: &azkeys.KeyRotationPolicyAttributes{ExpiryTime: ptr("P1D")}}, nil)
			isRefused(t, err, 400, "BadParameter")
		})
	}
}

// TestBackup takes a key out of a vault and brings it back with Azure's client.
func TestBackup(t *testing.T) {
	t.Parallel()
	c := newWorld(t, false).keys(t, "app", secret)
	ctx := t.Context()
	created, err := c.CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeEC)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	backup, err := c.BackupKey(ctx, "k", nil)
	if err != nil || len(backup.Value) == 0 {
		t.Fatalf("%+v, %v", backup, err)
	}
	_, err = c.RestoreKey(ctx, azkeys.RestoreKeyParameters{KeyBackup: backup.Value}, nil)
	isRefused(t, err, 409, "Conflict")
	if _, err := c.DeleteKey(ctx, "k", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PurgeDeletedKey(ctx, "k", nil); err != nil {
		t.Fatal(err)
	}
	restored, err := c.RestoreKey(ctx, azkeys.RestoreKeyParameters{KeyBackup: backup.Value}, nil)
	if err != nil || *restored.Key.KID != *created.Key.KID || string(restored.Key.X) != string(created.Key.X) {
		t.Errorf("%+v, %v", restored, err)
	}
}
