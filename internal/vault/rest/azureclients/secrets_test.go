// SPDX-License-Identifier: Apache-2.0

package azureclients

import (
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

func TestSecretLife(t *testing.T) {
	t.Parallel()
	c, ctx := newWorld(t, false).secrets(t), t.Context()
	set, err := c.SetSecret(ctx, "s", azsecrets.SetSecretParameters{Value: ptr("value"), ContentType: ptr("text/plain"), Tags: map[string]*string{"a": ptr("b")}}, nil)
	if err != nil || *set.Value != "value" || set.ID.Name() != "s" {
		t.Fatalf("%+v, %v", set, err)
	}
	got, err := c.GetSecret(ctx, "s", "", nil)
	if err != nil || *got.Value != "value" || *got.ContentType != "text/plain" || *got.Tags["a"] != "b" || *got.ID != *set.ID {
		t.Errorf("%+v, %v", got, err)
	}
	updated, err := c.UpdateSecretProperties(ctx, "s", set.ID.Version(), azsecrets.UpdateSecretPropertiesParameters{ContentType: ptr("x")}, nil)
	if err != nil || *updated.ContentType != "x" || updated.Value != nil {
		t.Errorf("%+v, %v", updated, err)
	}
	listed := 0
	for p := c.NewListSecretPropertiesPager(nil); p.More(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		listed += len(page.Value)
	}
	for p := c.NewListSecretPropertiesVersionsPager("s", nil); p.More(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		listed += len(page.Value)
	}
	if listed != 2 {
		t.Errorf("%d secrets and versions", listed)
	}
	backup, err := c.BackupSecret(ctx, "s", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteSecret(ctx, "s", nil); err != nil {
		t.Error(err)
	}
	_, err = c.GetSecret(ctx, "s", "", nil)
	isRefused(t, err, 404, "SecretNotFound")
	if d, err := c.GetDeletedSecret(ctx, "s", nil); err != nil || d.RecoveryID == nil {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := c.RecoverDeletedSecret(ctx, "s", nil); err != nil {
		t.Error(err)
	}
	if _, err := c.DeleteSecret(ctx, "s", nil); err != nil {
		t.Error(err)
	}
	if _, err := c.PurgeDeletedSecret(ctx, "s", nil); err != nil {
		t.Error(err)
	}
	restored, err := c.RestoreSecret(ctx, azsecrets.RestoreSecretParameters{SecretBackup: backup.Value}, nil)
	if err != nil || *restored.ID != *set.ID {
		t.Errorf("%+v, %v", restored, err)
	}
	if got, err := c.GetSecret(ctx, "s", "", nil); err != nil || *got.Value != "value" {
		t.Errorf("%+v, %v", got, err)
	}
}
