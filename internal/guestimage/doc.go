// SPDX-License-Identifier: Apache-2.0

// Package guestimage builds what a TEE VM boots, and says what its launch measures.
//
// An image is three files and a manifest: Debian's kernel as packaged (vmlinuz) and unpacked (vmlinux), and an
// initramfs that holds everything the guest trusts: the agent as /init, the OCI runtime, kernel modules, templates of
// empty scratch filesystems and a few lines of configuration. There is no shell, no package and no disk. The kernel's
// command lines belong to the image too, one per kind of TEE, because they are measured with it.
//
// The same inputs give the same bytes, on any machine and in any directory; the manifest names the inputs. An image
// lies in a directory named by the SHA-256 of its manifest, so it can not change without being another image.
//
// The package trusts the files it is given to build from and the Debian archive's signature. It trusts a finished
// image only as far as Verify checked it. It never installs anything, never needs root, and never decides whether a
// measurement is acceptable: it only says which one an image has.
package guestimage
