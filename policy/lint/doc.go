// SPDX-License-Identifier: Apache-2.0

// Package lint looks at a policy's text for what its author will regret.
//
// It finds doors left open, patterns that admit more than they seem to, containers that can never start, and what a
// public text should not hold. Each finding has a stable code, a severity, the place and what to change. Doors are
// found by asking: the engine that guests use gets a request that no policy should allow. Nothing about a policy is
// trusted; what cannot be judged from the text is reported as such. The package never changes a policy and never says
// that one is safe.
package lint
