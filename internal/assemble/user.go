// SPDX-License-Identifier: Apache-2.0

package assemble

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"cofferdam.dev/internal/spec"
)

// errRoot says that a container would run as the user that its description excludes.
var errRoot = errors.New("it must not run as root (runAsNonRoot)")

// userOf is USER[:GROUP] to ask for: numbers of the description's win over its name, and that over the image's.
func userOf(c *spec.Container, image string) (string, error) {
	user := cmp.Or(c.User, image)
	name, group, _ := strings.Cut(user, ":")
	if c.RunAsUser != nil {
		name, group = strconv.FormatInt(*c.RunAsUser, 10), ""
	}
	if c.RunAsGroup != nil {
		name, group = cmp.Or(name, "0"), strconv.FormatInt(*c.RunAsGroup, 10)
	}
	if c.RunAsNonRoot {
		id, err := strconv.ParseUint(name, 10, 32)
		switch {
		case name == "" || err == nil && id == 0:
			return "", fmt.Errorf("container %s runs as root: %w", c.Name, errRoot)
		case err != nil:
			return "", fmt.Errorf("container %s runs as %q, which may be any number: %w; say runAsUser", c.Name, name, errRoot)
		}
	}
	if group != "" {
		name += ":" + group
	}
	return name, nil
}
