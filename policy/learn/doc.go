// SPDX-License-Identifier: Apache-2.0

// Package learn makes a policy of recorded requests: the least one, in the generated form, that admits them all.
//
// Every value is listed literally: what was not asked for is not admitted. A recording is what a host asked for, not
// what was right; the package trusts it that far and no further, and says what it had to leave out because no policy
// can admit it. The result has been held against the recording by the engine before it is returned.
package learn
