// SPDX-License-Identifier: Apache-2.0

// Package pcs holds the documents that Intel's Provisioning Certification Service signs about its platforms: TCB info for
// SGX (versions 2 and 3) and TDX (version 3), and the identities of quoting enclaves (version 2, and version 1 of before
// 2020 as far as it goes). The formats are those of versions 3 and 4 of the service's API, sections "Get TCB Info" and
// "Get Enclave Identity".
//
// The package trusts nothing: every parser takes hostile bytes of bounded size. A member that is missing, occurs twice, or
// has another form is an error that names it by its path. Members that are unknown are ignored, because Intel adds such
// without a new version and signs them. A signed document keeps the exact bytes that the signature covers. The package
// never verifies a signature, never judges a status or a date, and never fetches anything; package verify/intel does the
// judging.
package pcs
