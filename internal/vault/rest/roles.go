// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"slices"

	"cofferdam.dev/internal/auth"
)

// permission is something that a role may allow, named as in Azure Key Vault.
type permission string

// The permissions. There is none for the public halves of keys apart from "keys/read".
const (
	keysRead       permission = "keys/read"
	keysCreate     permission = "keys/create"
	keysImport     permission = "keys/import"
	keysUpdate     permission = "keys/update"
	keysDelete     permission = "keys/delete"
	keysRecover    permission = "keys/recover"
	keysPurge      permission = "keys/purge"
	keysRotate     permission = "keys/rotate"
	keysBackup     permission = "keys/backup"
	keysRestore    permission = "keys/restore"
	rotationRead   permission = "keyrotationpolicies/read"
	rotationWrite  permission = "keyrotationpolicies/write"
	keysEncrypt    permission = "keys/encrypt"
	keysDecrypt    permission = "keys/decrypt"
	keysSign       permission = "keys/sign"
	keysVerify     permission = "keys/verify"
	keysWrap       permission = "keys/wrap"
	keysUnwrap     permission = "keys/unwrap"
	keysRelease    permission = "keys/release"
	keysRandom     permission = "keys/random"
	secretsRead    permission = "secrets/readMetadata"
	secretsGet     permission = "secrets/getSecret"
	secretsSet     permission = "secrets/setSecret" //nolint:gosec // the name of a permission
	secretsUpdate  permission = "secrets/update"
	secretsDelete  permission = "secrets/delete"
	secretsRecover permission = "secrets/recover"
	secretsBackup  permission = "secrets/backup"
	secretsRestore permission = "secrets/restore"
	secretsPurge   permission = "secrets/purge"
	secretsRelease permission = "secrets/release"
	releasesRead   permission = "releases/read" // ours, as are the next two
	countersRead   permission = "counters/read"
	countersMove   permission = "counters/move"
)

// role is one of Azure's built-in roles, for a vault or for a managed HSM.
type role struct {
	name, id string
	managed  bool
	allows   []permission
}

var (
	keysUse     = []permission{keysRead, keysEncrypt, keysDecrypt, keysSign, keysVerify, keysWrap, keysUnwrap}
	keysManage  = []permission{keysRead, keysCreate, keysImport, keysUpdate, keysDelete, keysRotate, keysBackup, keysRestore, rotationRead, rotationWrite}
	keysDeleted = []permission{keysRecover, keysPurge}
	countersUse = []permission{countersRead, countersMove}
	secretsAll  = []permission{secretsRead, secretsGet, secretsSet, secretsUpdate, secretsDelete, secretsRecover, secretsPurge, secretsBackup, secretsRestore}
)

// roles are the built-in roles with what they allow of what there is here. Who may ask for a release has nothing by that:
// the key's policy decides. Secrets of a managed HSM, which Azure's has none of, are its users' as its keys are.
var roles = []role{
	{"Key Vault Administrator", "00482a5a-887f-4fb3-b363-3b7fe8e74483", false, slices.Concat(keysUse, keysManage, keysDeleted, secretsAll, []permission{keysRandom, keysRelease, secretsRelease, releasesRead}, countersUse)},
	{"Key Vault Crypto Officer", "14b46e9e-c2b7-41b4-b07b-48a6ebf60603", false, slices.Concat(keysUse, keysManage, keysDeleted, []permission{keysRandom, keysRelease})},
	{"Key Vault Crypto User", "12338af0-0e69-4776-bea7-57ae8d297424", false, append(slices.Clone(keysUse), keysUpdate, keysBackup)},
	{"Key Vault Crypto Service Encryption User", "e147488a-f6f5-4113-8e2d-b22465e65bf6", false, []permission{keysRead, keysWrap, keysUnwrap}},
	{"Key Vault Crypto Service Release User", "08bbd89e-9f13-488c-ac41-acfcb10c90ab", false, append(slices.Clone(countersUse), keysRelease, secretsRelease)},
	{"Key Vault Reader", "21090545-7ca7-4776-b22c-e363652d74d2", false, []permission{keysRead, rotationRead, secretsRead}},
	{"Key Vault Secrets Officer", "b86a8fe4-44ce-4948-aee5-eccb2c155cd7", false, secretsAll},
	{"Key Vault Secrets User", "4633458b-17de-408a-b874-0445c86b69e6", false, []permission{secretsRead, secretsGet}},
	{"Key Vault Purge Operator", "a68e7c17-0ab2-4c09-9a58-125dae29748c", false, []permission{keysPurge, secretsPurge}},

	{"Managed HSM Administrator", "a290e904-7015-4bba-90c8-60543313cdb4", true, nil}, // of the HSM itself, never of keys
	{"Managed HSM Crypto Officer", "515eb02d-2335-4d2d-92f2-b1cbdf9c3778", true, slices.Concat(keysDeleted, []permission{keysRelease, secretsRecover, secretsPurge, secretsRelease, releasesRead}, countersUse)},
	{"Managed HSM Crypto User", "21dbd100-6940-42c2-9190-5d6cb909625b", true, slices.Concat(keysUse, keysManage, []permission{keysRandom, secretsRead, secretsGet, secretsSet, secretsUpdate, secretsDelete})},
	{"Managed HSM Policy Administrator", "4bd23610-cdcf-4971-bdee-bdc562cc28e4", true, nil}, // assigns roles, which configuration does here
	{"Managed HSM Crypto Auditor", "2c18b078-7c48-4d3a-af88-5a3a1b3f82b3", true, []permission{keysRead}},
	{"Managed HSM Crypto Service Encryption User", "33413926-3206-4cdd-b39a-83574fe37a17", true, []permission{keysRead, keysWrap, keysUnwrap}},
	{"Managed HSM Crypto Service Release User", "21dbd100-6940-42c2-9190-5d6cb909625c", true, append(slices.Clone(countersUse), keysRelease, secretsRelease)},
	{"Managed HSM Backup User", "7b127d3c-77bd-4e3e-bbe0-dbb8971fa7f8", true, nil}, // of the whole, which are the operator's, by command
	{"Managed HSM Restore", "6efe6056-5259-49d2-8b3d-d3d73544b20b", true, nil},
}

// KnownRole reports whether a role is one that the vault, or else the managed HSM, knows: by its name or its ID, alone or
// followed by the path of an object, as "Key Vault Crypto User/keys/example", which bounds it to that object.
func KnownRole(r auth.Role, managed bool) bool {
	return slices.ContainsFunc(roles, func(one role) bool {
		return one.managed == managed && (one.is(r, "") || one.scoped(r))
	})
}

// Operator are the roles with which an operator can do everything.
func Operator(managed bool) []auth.Role {
	if managed {
		return []auth.Role{"Managed HSM Crypto User", "Managed HSM Crypto Officer"}
	}
	return []auth.Role{"Key Vault Administrator"}
}

func (one *role) is(r auth.Role, suffix string) bool {
	return string(r) == one.name+suffix || string(r) == one.id+suffix
}

// scoped reports whether r is the role for one object.
func (one *role) scoped(r auth.Role) bool {
	for _, prefix := range []string{one.name, one.id} {
		for _, kind := range []string{"/keys/", "/secrets/", "/counters/"} {
			if len(r) > len(prefix+kind) && string(r[:len(prefix+kind)]) == prefix+kind {
				return true
			}
		}
	}
	return false
}

// allowing returns the roles of which one is needed for something with an object.
func allowing(managed bool, needs permission, object string) []auth.Role {
	var list []auth.Role
	for i := range roles {
		if one := &roles[i]; one.managed == managed && slices.Contains(one.allows, needs) {
			for _, name := range []string{one.name, one.id} {
				list = append(list, auth.Role(name), auth.Role(name+"/"+object))
			}
		}
	}
	return list
}
