// SPDX-License-Identifier: Apache-2.0

// Package devdomain is a whole trust domain in one process, for development: an attestation service, a vault that believes
// it and nobody else, and a key broker over the same keys, with certificates of one authority of its own and everything in
// one directory.
//
// It is what a person needs to try releases, not what others may rely on: whoever has the directory has everything in it, the
// root key's passphrase included. It trusts that directory, and the simulated roots that it was given by name. What it never
// does is take the two kinds of evidence for one another: tokens over simulated evidence have an issuer of their own, say
// that they are simulated, and satisfy no policy that names the other issuer. It listens on loopback addresses unless it is
// told otherwise.
package devdomain
