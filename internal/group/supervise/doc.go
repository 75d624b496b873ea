// SPDX-License-Identifier: Apache-2.0

// Package supervise is the supervisor of one container group: the process that boots the group's machine, starts its
// containers, keeps their output, and answers clients until the group has ended. It outlives the command that started
// it.
//
// It trusts the plan that the command line wrote, and the user who owns the socket. The guest is the tenant's: its
// output is bounded and its refusals are passed on as they are. It never runs anything of a tenant on the host, and
// leaves nothing behind but the group's record and logs.
package supervise
