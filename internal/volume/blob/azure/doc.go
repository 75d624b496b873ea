// SPDX-License-Identifier: Apache-2.0

// Package azure reads and writes objects of Azure Blob Storage, and of servers that speak its protocol: page blobs to be
// read and written, page and block blobs to be read only, and uploads of both.
//
// A blob that is read only is pinned by its ETag. One that is written is fenced twice: by a lease, so that no second writer
// comes in between, and by the blob's sequence number, so that a write of ours that was given up, and may still be under way,
// can not land on top of a later one.
//
// The storage is not trusted with anything but to be there: it can lie about what it stored, and to notice that is for the
// volume's format. The package signs as the service wants it (authorisation with shared key, version 2015-02-21 and later;
// shared access signatures; bearer tokens), and never logs.
package azure
