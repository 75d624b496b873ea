// SPDX-License-Identifier: Apache-2.0

// Package descriptor reads and writes volume descriptors: what must be known of an encrypted volume, beside its storage, to
// open it safely. A descriptor says which format the volume has and what is pinned of it, how each of its keys comes by the
// volume key, and where the anchor is that tells its last state from an older one.
//
// A descriptor holds nothing secret and may lie beside the volume on storage that nobody trusts. Nothing in it counts before
// Open has found that its MAC is of the volume key. What no descriptor can tell is that there was a newer one: whoever must
// not go back pins it, by its text or its digest, where a policy or a signature covers that.
//
// The package trusts the keys that it is given. It never writes one in the clear, and never prints one. The zero value of a
// Descriptor opens nothing.
package descriptor
