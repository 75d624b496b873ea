// SPDX-License-Identifier: Apache-2.0

// Package denial is the form in which a refused request travels through error messages: a marker around base64 around
// JSON, as Microsoft's hcsshim writes it, so that whatever log it ends up in, somebody can dig it out and read it.
//
// New makes a denial from a request and the reasons for its refusal, and leaves out what may be secret: the values of
// environment variables. Encode keeps within the size that error channels let through. Decode takes messages from
// anywhere: it trusts nothing in them, bounds what it reads, and never takes a message for more than what somebody
// wrote into a log. The package decides nothing.
package denial
