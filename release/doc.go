// SPDX-License-Identifier: Apache-2.0

// Package release is how a program inside a guest comes by keys that a vault gives to proven code alone: it makes a key
// pair that never leaves the process, has the guest's evidence for the public half appraised by an attestation service,
// shows the service's token to the vault, and opens what the vault encrypted to the public half.
//
// It speaks the protocols of Azure Attestation, Azure Key Vault and Managed HSM, and so to these and to the services of
// this module alike. A Client does all of it; Attestation, Vault and WrappingKey are its parts for those who need one.
//
// The network is not trusted, and of the servers no more than their part: the attestation service can not learn a key,
// as its token only names the public half; a vault's answer counts once its signature leads to a root that the caller
// trusts for the vault's name, and it answers this very request. The source of evidence is trusted to be well-meant. The
// package never follows a redirect, never speaks plain HTTP to a server, never writes a key, a token or the private half
// to a log, an error or a disk, never sends an identity's token to a host outside the domain that it is for, and never
// makes evidence up.
package release
