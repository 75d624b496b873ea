// SPDX-License-Identifier: Apache-2.0

// Package oracle asks another enforcer, hcsshim's, what it says to generated policies and to the requests that were
// recorded of ours. It is a module of its own because that enforcer brings versions of its dependencies that the main
// module must not take over.
//
// It trusts the recorded cases, which a test of the main module keeps current. It is a test and nothing else.
package oracle
