// SPDX-License-Identifier: Apache-2.0

// Package guestv1 is the control protocol between the host and the guest agent, generated from guest.proto, and the
// form in which the guest refuses.
//
// The guest is the server and trusts nothing that it receives; the host trusts the guest's answers as tenant data
// only. The package moves bytes and decides nothing.
package guestv1
