// SPDX-License-Identifier: Apache-2.0

// Package recording notes what a group's host asked its guest for, and what the guest said: refusals in the supervisor's
// log, and on request every question that the policy decided, in the form that package policy/replay reads.
//
// It sits on the host, which knows what it sent; from the guest it takes only whom a user's name stands for, and its
// verdicts, and nothing depends on either being true. A recording holds the values of environment variables: its file is
// for its owner alone. The package decides nothing and holds no request up.
package recording
