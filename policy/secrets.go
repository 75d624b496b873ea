// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Secret is a place in a policy whose content looks like a secret. It never holds the content itself.
type Secret struct {
	Container string // name of the container, else its image reference, else its number
	Place     string // the name of a variable, or a command and the number of its argument
	Why       string // "its name" or "its value": what looks like a secret
}

// Compiled when first used: the guest imports the package, and starts on an emulated processor.
var (
	secretName  = form(`(?i)(^|_)(pass|passwd|password|passphrase|secret|token|credentials?|private_?key|api_?key|access_?key|account_?key|connection_?string|auth)(_|$)`)
	secretValue = form(`-----BEGIN [A-Z ]*PRIVATE KEY-----` +
		`|^(ghp_|gho_|ghs_|github_pat_|glpat-|xox[bap]-|sk-|AKIA|ASIA|AIza)[A-Za-z0-9_-]{12,}` +
		`|^eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.` +
		`|(^|;)AccountKey=[A-Za-z0-9+/=]{20,}|[?&]sig=[A-Za-z0-9%+/=]{20,}`)
	secretFlag = form(`(?i)^--?([a-z0-9]+[-_])*(pass|passwd|password|passphrase|secret|token|api[-_]?key|access[-_]?key)=.`)
)

// Secrets finds what looks like a secret: by the names of variables and flags, and by the shapes of values. The text of
// a policy is public, so nothing of this may stay in it. A finding is a guess, and no finding is no proof.
func (p *Policy) Secrets() []Secret {
	var found []Secret
	for i := range p.Containers {
		c := &p.Containers[i]
		name := c.Name
		if name == "" {
			name = c.ID
		}
		if name == "" {
			name = fmt.Sprintf("number %d", i+1)
		}
		for _, s := range c.secrets() {
			s.Container = name
			if !slices.Contains(found, s) {
				found = append(found, s)
			}
		}
	}
	return found
}

func (c *Container) secrets() []Secret {
	var found []Secret
	for _, r := range c.EnvRules {
		name, value, fixed := r.Name, r.Value, r.ValueStrategy == StrategyString
		if r.NameStrategy == "" {
			name, value, _ = strings.Cut(r.Pattern, "=")
			fixed = r.Strategy == StrategyString
		}
		if why := variableSecret(name, value); fixed && why != "" {
			found = append(found, Secret{Place: name, Why: why})
		}
	}
	found = append(found, commandSecrets("command", c.Command)...)
	for i, e := range c.ExecProcesses {
		found = append(found, commandSecrets(fmt.Sprintf("exec command %d", i+1), e.Command)...)
	}
	return found
}

// variableSecret says what of a variable looks like a secret; empty if nothing does.
func variableSecret(name, value string) string {
	switch {
	case value == "":
		return ""
	case secretName().MatchString(name):
		return "its name"
	case valueSecret(value):
		return "its value"
	}
	return ""
}

func valueSecret(s string) bool { return secretValue().MatchString(s) || userInfo(s) }

// userInfo says whether a URL carries a password.
func userInfo(s string) bool {
	if !strings.Contains(s, "://") || !strings.Contains(s, "@") {
		return false
	}
	u, err := url.Parse(s)
	if err != nil || u.User == nil {
		return false
	}
	password, given := u.User.Password()
	return given && password != ""
}

func commandSecrets(place string, command []string) []Secret {
	var found []Secret
	for i, arg := range command {
		where := fmt.Sprintf("%s, argument %d", place, i)
		switch {
		case secretFlag().MatchString(arg):
			found = append(found, Secret{Place: where, Why: "its name"})
		case valueSecret(arg):
			found = append(found, Secret{Place: where, Why: "its value"})
		}
	}
	return found
}
