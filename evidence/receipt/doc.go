// SPDX-License-Identifier: Apache-2.0

// Package receipt reads the receipts of ledgers that are built on the Confidential Consortium Framework (CCF), and checks
// them with keys that the caller trusts. A receipt shows that a ledger has recorded something: its leaf, the path of
// hashes from it to a root, and the ledger's signature over the root.
//
// There are two forms. Receipt is the COSE form (RFC 9942 with the CCF profile of its tree, carried by a transparent
// statement as RFC 9943 says) over a signed statement, such as a policy fragment or an endorsement of a utility VM.
// JSON is the form in which a ledger, Azure's for one, answers for a transaction.
//
// The package has no keys of its own and no clock. Which ledger's key a key is, and whether that ledger's word counts,
// is for the caller: what a receipt says of its ledger is signed, but by whoever signed it. It never touches the network.
package receipt
