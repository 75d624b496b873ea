// SPDX-License-Identifier: Apache-2.0

// Package bundle keeps an appraisal: the evidence, the collateral that was used, the policy, what else the relying party
// knew, the time, and the verdict, in one file that its appraiser signs. Years later the same verdict can be reached
// again from the file alone, at the time that is recorded or at another.
//
// Open trusts the keys that it is given and nothing else: a bundle that none of them signed is not opened. Inside, only
// what the evidence's own signatures and the built-in roots support counts again: a verdict is recorded to be compared,
// never to be believed. Simulated roots are not taken from a bundle.
//
// The package never touches the network, the clock or a file, and never panics on input.
package bundle
