// SPDX-License-Identifier: Apache-2.0

// Package image opens container images: from a registry, an OCI layout directory, or an OCI or Docker archive file.
//
// Everything that comes from outside is hostile until its digest matches: registries and archives may lie about sizes,
// names and content. Every manifest, configuration and layer is checked against the digest that refers to it while it
// is read, and each size is bounded. The package needs no daemon, unpacks nothing onto the file system, and never
// decides whether an image may run.
package image
