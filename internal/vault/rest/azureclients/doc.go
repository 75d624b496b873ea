// SPDX-License-Identifier: Apache-2.0

// Package azureclients has the official Azure clients for keys, secrets and sign-in talk to the vault, as its users will:
// they are independent readers of the protocol. It is a module of its own, so that the main module needs none of theirs.
//
// It trusts what those clients say. It is a test and nothing else.
package azureclients
