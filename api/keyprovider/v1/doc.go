// SPDX-License-Identifier: Apache-2.0

// Package keyproviderv1 is the messages of the key provider: the gRPC protocol in which programs inside a group ask the
// release sidecar for evidence, and have keys of encrypted images unwrapped. It trusts nothing and does nothing; who
// serves it is in internal/sidecar/skr.
package keyproviderv1
