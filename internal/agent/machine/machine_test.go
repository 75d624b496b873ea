// SPDX-License-Identifier: Apache-2.0

package machine_test

import (
	"cofferdam.dev/internal/agent"
	"cofferdam.dev/internal/agent/machine"
)

var _ agent.Machine = (*machine.Machine)(nil)
