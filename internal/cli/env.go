// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"regexp"
	"strings"

	"cofferdam.dev/internal/spec"
)

// maxEnvFile bounds an environment file.
const maxEnvFile = 1 << 20

// readEnvFiles reads files of environment variables: lines of NAME=VALUE, or of NAME for our own value. Empty lines and
// lines that begin with # are skipped; nothing is quoted or expanded.
func readEnvFiles(files []string) ([]string, error) {
	var env []string
	for _, name := range files {
		data, err := readLimited(name, nil, maxEnvFile)
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

var (
	secretName  = regexp.MustCompile(`(?i)(^|_)(pass|passwd|password|passphrase|secret|token|credentials?|private_?key|api_?key|access_?key|auth)(_|$)`)
	secretValue = regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----|^(ghp_|github_pat_|glpat-|xox[bap]-|sk-|AKIA)[A-Za-z0-9_-]{12,}|^eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.`)
)

// warnSecrets names the variables that look like secrets: their values become part of the policy's text, which is
// public, and pass through the host.
func (a *app) warnSecrets(env []spec.EnvVar) {
	for _, v := range env {
		if v.Value != "" && (secretName.MatchString(v.Name) || secretValue.MatchString(v.Value)) {
			a.say("%s %s looks like a secret; its value stands in the policy, which is public, and the host sees it",
				a.style(a.Err).warn("warning:"), v.Name)
		}
	}
}
