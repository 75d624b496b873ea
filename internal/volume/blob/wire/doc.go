// SPDX-License-Identifier: Apache-2.0

// Package wire is how volumes ask servers for parts of stored objects: one request at a time, each with a deadline that its
// context carries, each answer held to what was asked for.
//
// Servers and the network are not trusted. An answer is used only if it is of the version that was pinned, of exactly the
// bytes asked for, and whole; everything else is an error, and never data. A server can still lie about the bytes: that is
// for the volume's format to notice. The package never follows a redirect, never sends what is secret in clear beyond this
// machine and its link, and puts no query of a URL, no header and no body into an error.
package wire
