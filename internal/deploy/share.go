// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/spec"
)

// ErrNoShare says that a group has a file share and nobody said what stands in for it.
var ErrNoShare = errors.New("no directory of this machine stands in for it")

// share finds the directories that stand in for file shares. A share without one is an error: an empty directory would
// only look as if it worked.
func share(volumes []group.Volume, dirs map[string]string) error {
	for i := range volumes {
		v := &volumes[i]
		if v.Kind != spec.MountAzureFile {
			continue
		}
		account, name := "", v.Name
		if v.Share != nil {
			account, name = v.Share.Account, v.Share.Name
		}
		dir, ok := dirs[account+"/"+name]
		if !ok {
			dir, ok = dirs[name]
		}
		if !ok {
			return fmt.Errorf("volume %s is the file share %s/%s, and %w", v.Name, account, name, ErrNoShare)
		}
		dir, err := filepath.Abs(dir)
		if err != nil {
			return fmt.Errorf("file share %s: %w", name, err)
		}
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("file share %s: %w", name, err)
		}
		if !info.IsDir() {
			return fmt.Errorf("file share %s: %s is no directory", name, dir)
		}
		v.HostDir = dir
	}
	return nil
}
