// SPDX-License-Identifier: Apache-2.0

package rest

const instanceEnv = "COFFERDAM_TEST_INSTANCE"

func instance() int { return 1 }
