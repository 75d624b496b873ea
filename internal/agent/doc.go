// SPDX-License-Identifier: Apache-2.0

// Package agent is the program that runs as PID 1 inside the TEE VM.
//
// It trusts its own measured bytes, the processor's report about itself, and the policy whose SHA-256 that report
// carries as HOST_DATA. It treats everything else as hostile: the host's requests, disks, serial numbers, network and
// clock. It asks the policy before every act, does nothing that no request names, and never writes a secret to a log
// or to a disk in clear. The containers of the group are hostile to it, too; all that they may ask it for is evidence.
package agent
