// SPDX-License-Identifier: Apache-2.0

package policycmd

import (
	"fmt"
	"strings"

	"cofferdam.dev/internal/cli/console"
)

// maxEnvFile bounds an environment file.
const maxEnvFile = 1 << 20

// readEnvFiles reads files of environment variables: lines of NAME=VALUE, or of NAME for our own value. Empty lines and
// lines that begin with # are skipped; nothing is quoted or expanded.
func readEnvFiles(files []string) ([]string, error) {
	var env []string
	for _, name := range files {
		data, err := console.ReadLimited(name, nil, maxEnvFile)
		if err != nil {
			return nil, fmt.Errorf("reading the environment file: %w", err)
		}
		for line := range strings.Lines(string(data)) {
			line = strings.TrimRight(strings.TrimLeft(line, " \t"), "\r\n")
			if line != "" && line[0] != '#' {
				env = append(env, line)
			}
		}
	}
	return env, nil
}
