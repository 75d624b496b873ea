// SPDX-License-Identifier: Apache-2.0

// Package s3 reads objects of S3-compatible storage by ranges, pinned to their ETag, and uploads them in parts. Requests
// name the bucket in the path, which every compatible server understands, and are signed with AWS Signature Version 4.
//
// The storage is not trusted with anything but to be there. Objects are never written in place: S3 has no way to.
package s3
