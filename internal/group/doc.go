// SPDX-License-Identifier: Apache-2.0

// Package group keeps container groups on the host: their records, their plans, and the client that talks to the
// supervisor process of a group that runs.
//
// A group lives in one directory of its own under the store. Whether it runs is decided by a file lock that its
// supervisor holds and never by what the record says, so that a killed supervisor or a restarted machine can not leave
// a group that pretends to run. The package trusts the user's own state directory; it treats what comes from a guest
// as the tenant's data. It never decides about policy and never keeps a secret of a tenant beyond the plan that the
// command line wrote.
package group
