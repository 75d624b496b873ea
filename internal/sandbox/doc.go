// SPDX-License-Identifier: Apache-2.0

// Package sandbox runs one TEE virtual machine on the host, and is the client of the agent inside.
//
// A VM owns everything that belongs to the machine: the QEMU process, its channels, its network, its console. When the
// VM has ended, for whatever reason, none of it is left, and Exit says which of the possible ends it was. The package
// believes QEMU and the guest only as far as a host must to tell its user what happened. It makes no decision about
// policy: what the guest refuses is handed on as the guest said it.
package sandbox
