// SPDX-License-Identifier: Apache-2.0

// Package blob opens the objects that volumes lie in, wherever they are: local files, servers that give out ranges over
// HTTP, Azure Blob Storage, and S3-compatible storage. An object that is read is pinned to the version it had when it was
// opened; one that is written is kept from other writers. Upload brings a file to where it can be opened.
//
// Every method makes at most a few requests and waits for nothing beyond them: trying again, reading ahead and writing
// behind are package blockcache's. The storage is not trusted to keep secrets or to tell the truth: what it holds is
// encrypted and authenticated by the volume's format, and what it answers is used only if it is of the pinned version and of
// exactly the bytes that were asked for. Credentials are typed, go to the object's own server alone and never in clear beyond
// this machine and its link, and are in no error and no log.
package blob
