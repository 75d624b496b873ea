// SPDX-License-Identifier: Apache-2.0

// Package hcl holds the byte formats of evidence from an Azure confidential VM: the report of the paravisor (the host
// compatibility layer, "HCL") with the hardware report and the claims that it is bound to, the quote of the virtual TPM,
// and the JSON in which both travel.
//
// In such a VM the operator of the guest meets no secure processor. The paravisor, which was measured at launch, owns it
// and emulates a TPM. The chain therefore has one link more than elsewhere: the hardware signs the hash of the claims,
// the claims hold the TPM's attestation key, and that key signs PCR values and a nonce.
//
// The package trusts nothing: it parses hostile bytes strictly, names every field, and refuses what it does not know. It
// never hashes, never verifies a signature and never judges a value; package verify/azure does.
package hcl
