// SPDX-License-Identifier: Apache-2.0

// Package treetest holds the tests that walk the whole tree: which package may import which, what must be documented,
// how long files and functions may be, which licence header each file carries.
//
// It trusts the source tree that it stands in, has no code of its own, and is never imported.
package treetest
