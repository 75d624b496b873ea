// SPDX-License-Identifier: Apache-2.0

// Package didx509 resolves identifiers of the did:x509 method, version 0: names for a signer that are made of the
// fingerprint of a certificate authority and of what the authority wrote into the signer's certificate.
//
// A fingerprint may be that of any certificate after the leaf, an intermediate's too, so trust ends at the certificate
// that is named and not at the root. Each certificate must have signed the one before it, in the order given: a
// certificate that is only carried along can not lend its fingerprint to a chain that it is no part of.
//
// The package has no roots and no clock of its own. It trusts the caller to say which identifiers count, and at which
// time a chain must be valid. It reads hostile certificates, within limits, and never fetches anything.
package didx509
