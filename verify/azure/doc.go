// SPDX-License-Identifier: Apache-2.0

// Package azure appraises the evidence of Azure's confidential VMs, in which a paravisor that was measured at launch owns
// the secure processor and emulates a TPM. Four things must hold together: the hardware report is genuine (packages amd
// and intel judge that); it binds the paravisor's claims; the TPM's key in the claims signed the quote; and the quote is
// about trusted register values. What the quote was asked to sign is handed on, for the caller to compare with its nonce.
//
// The launch measurement of such a VM is that of the paravisor and its firmware. It says nothing about what was booted
// after them: only the registers do, so a policy must pin PCR 4 (what was started) or PCR 7 (whose signature it needed).
// The higher registers can be extended by whatever was booted, and prove nothing without one of these two.
//
// It trusts the roots of its Input, and its Policy; everything else is hostile. It also trusts what a pinned measurement
// stands for: that this paravisor keeps the TPM's key to itself, and signs nothing with it that only looks like a quote.
// The zero Policy admits nothing. The package never touches the network, the clock or a file, and never panics on input.
package azure
