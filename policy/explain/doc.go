// SPDX-License-Identifier: Apache-2.0

// Package explain says why a policy denies a request, in terms of the policy: the container that comes nearest, each
// field that is at fault with what was expected and what came, and the smallest change that would admit the request.
//
// It re-implements no check. For each container it asks the engine about a policy that lists this container alone, so
// that the reasons are those of the predicates that decided; and a change is proposed only after the engine has
// admitted the request under it, and under none of its parts. Requests may come from denials, where the values of
// variables are missing: what was assumed is said. A proposed change is not a good one: it admits what was asked.
package explain
