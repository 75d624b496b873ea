// SPDX-License-Identifier: Apache-2.0

// Package uvm appraises endorsements of utility VMs: whether a trusted publisher has signed that a launch measurement is
// one of theirs, and how recent it is. So a relying party can trust a series of images by its publisher's name instead of
// each image by its digest.
//
// It trusts its Policy: the publishers by their full did:x509, the series, the lowest security version, and where receipts
// are asked for, the ledgers' keys. There are no roots: the identifier pins an authority by its fingerprint. The zero
// Policy admits nothing, and no publisher is built in; AzureContainerPlat is a value that must be asked for by name.
//
// An endorsement is judged at the time at which its signer says to have signed it, because it is meant to outlive the
// signer's certificate. A signer whose key was stolen could lie about that time; where that matters, ask for a receipt.
//
// The package never touches the network, the clock or a file, and never panics on input.
package uvm
