// SPDX-License-Identifier: Apache-2.0

// Package storageclients compares how we speak to storage with programs that others wrote: Azure's client for blobs, against
// the storage emulator; Amazon's signer; and another S3 server. It is a module of its own, so that the main module needs none
// of theirs.
//
// It trusts what those programs say. It is a test and nothing else.
package storageclients
