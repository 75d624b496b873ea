// SPDX-License-Identifier: Apache-2.0

// Package policy is the execution policy of a container group: what exactly may ever run in it.
//
// It holds the document model, a strict reader and the exact writer of the Rego text that Azure's confcom extension
// makes, and the text's hash. Relying parties pin that hash (it is the launch's HOST_DATA), so the text is reproduced
// byte for byte. The package trusts nothing it reads: Parse accepts the generated form alone and names the first line
// that deviates. It never evaluates a policy (package engine does), never touches a device or the network.
package policy
