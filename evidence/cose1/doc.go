// SPDX-License-Identifier: Apache-2.0

// Package cose1 reads, verifies and writes signed messages: COSE_Sign1 (RFC 9052) whose signer's certificate chain
// travels in the protected header (x5chain, RFC 9360), as policy fragments and endorsements of utility VMs come.
//
// Nothing counts but the protected header, the payload and the signature over both. Of the unprotected header only the
// receipts of transparency ledgers are handed out, as the bytes that they are. The package has no roots: who the issuer
// is, and whether that issuer matters, is for others to decide (package didx509, and a policy). It never touches the
// network or a clock, and never returns part of a message that it refused.
package cose1
