// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"

	"cofferdam.dev/internal/group"
)

// share serves a directory of this machine as a volume.
func (s *supervisor) share(context.Context, *group.Volume) error {
	return errors.New("no directory can be shared with a guest yet")
}
