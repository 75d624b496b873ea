// SPDX-License-Identifier: Apache-2.0

// Package outline reads what can be read from a policy's text without evaluating it, with the place where it stands.
//
// It is for the tools that look at policies: lint, diff, explain. Any Rego policy may be given. What is a constant
// (versions, switches, containers, fragments) is read; a rule that hands an enforcement point to the framework is told
// from one that decides by itself; and everything that is neither is named as not understood, so that a tool can say
// what it could not judge. Nothing is trusted, compiled or run, and nothing here decides a request.
package outline
