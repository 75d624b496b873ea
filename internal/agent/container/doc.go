// SPDX-License-Identifier: Apache-2.0

// Package container turns a request that the policy allowed into an OCI container: the runtime's configuration, the
// files and directories that a container gets from the guest, runc, the processes and their standard streams.
//
// It trusts its caller to have asked the policy and to have checked the form of every name and path. It does not trust
// the contents of a container's root filesystem or of the group's volumes: every path below them is resolved by the
// kernel with that directory as the root, files are read with a bound, and nothing found there chooses what happens
// outside. It never passes anything of the host's choosing to the runtime that is not a field of Spec or Process.
package container
