// SPDX-License-Identifier: Apache-2.0

// Package accept runs the shipped binaries as a user would, in real VMs, on images of unmodified software, and measures
// what the project promises to be quick.
//
// It trusts what `make build guest images` put into the checkout and never imports the code under test for anything
// that a user would do by command; the benchmarks alone reach below the command line.
package accept
