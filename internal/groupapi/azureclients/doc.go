// SPDX-License-Identifier: Apache-2.0

// Package azureclients has Azure's own client for container groups talk to the groups service, as its users will: it is an
// independent reader of the protocol. It is a module of its own, so that the main module needs none of its modules.
//
// It trusts what that client says. It is a test and nothing else.
package azureclients
