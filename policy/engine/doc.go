// SPDX-License-Identifier: Apache-2.0

// Package engine decides host requests by a policy: the enforcement points, state and reasons of Microsoft's hcsshim,
// in a framework of our own.
//
// The rules are in framework.rego, evaluated by OPA together with the policy's text; each reason of a denial comes from
// the predicate that failed. State (mounted devices, overlays, candidate containers, started containers) lives in the
// Engine and changes through allowed decisions only. The package trusts the policy text to be the measured one (its
// caller compares the hash) but not to be benign: text size, evaluation time and built-in functions are bounded, and a
// policy can reach nothing outside itself. It never touches a device; it says yes or no.
package engine
