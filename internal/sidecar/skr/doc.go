// SPDX-License-Identifier: Apache-2.0

// Package skr is the release sidecar: a small server inside a container group from which the other containers of the group
// get evidence of the group, an attestation service's token, and keys that a vault releases to nobody else. It speaks the
// REST and gRPC protocols of the sidecar that container groups on Azure use, so that applications run unchanged.
//
// It trusts the other containers of its group with what they ask for, as the group's policy admitted them together, but
// takes what they send apart as hostile bytes. The source of reports is trusted to be well-meant. What the host says beside
// the report — certificates, endorsements — is passed on to be judged by others. It never answers with a report that did
// not come from the source it was started with, never keeps a released key, and never logs a key or a token;
// what a request names is logged at the level debug alone. Whoever can reach its port can have keys released in the group's name: it listens on loopback alone.
package skr
