// SPDX-License-Identifier: Apache-2.0

// Package workload answers the containers of a group when they ask for evidence. Each container has a directory with a
// socket of its own, which the agent mounts read-only into it; there is no other way to the socket, and none from the host.
//
// It trusts the caller to open a container's socket only after the policy allowed the container, and to hand it a source of
// reports. It takes requests for hostile: a container gets at most one report at a time, few connections, little memory
// and little of the agent's time, and what it does to its own socket nobody else notices. It never makes a report that
// says that the host asked for it, unless a container names the report data itself, and it never logs what is asked.
package workload
