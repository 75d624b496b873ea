// SPDX-License-Identifier: Apache-2.0

// Package erofs writes EROFS images, the read-only filesystem of Linux (Documentation/filesystems/erofs.rst, whose
// structures are fs/erofs/erofs_fs.h): a plan is made of a tree without reading a file's content, and then written in
// one go, with a few hundred kilobytes of content in memory however large the files are.
//
// Images are uncompressed, in blocks of 4096 bytes; the end of a file, a short directory and the target of a symbolic link
// lie beside their inode. What describes files comes first and together, so that an image that is fetched in ranges is soon
// mounted. The same tree and options make the same bytes.
//
// The package trusts the tree: whoever may change it while it is read decides what is in the image, though a file that is
// seen to change is an error. It never reads an image: that is the kernel's business, of an image that was verified before.
package erofs
