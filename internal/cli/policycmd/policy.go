// SPDX-License-Identifier: Apache-2.0

package policycmd

import (
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/policy"
)

// maxPolicy is what the guest takes.
const maxPolicy = 1 << 20

// PolicyCommand returns `policy` with all that is below it.
func (a *App) PolicyCommand() *cobra.Command {
	return console.Noun("policy", "Make execution policies, look at them, hash them",
		a.policyGenerateCommand(), a.policyShowCommand(), a.policyHashCommand(), a.policyFragmentCommand(), a.policyTrustListCommand(),
		a.policyLintCommand(), a.policyDiffCommand(), a.policyExplainCommand(), a.policySimulateCommand(), a.policyLearnCommand(),
		a.acipolicygenCommand())
}

// PolicyText reads a policy from a file, standard input (-), or the plan of a group (group:NAME).
func (a *App) PolicyText(name string) ([]byte, error) {
	ref, ok := strings.CutPrefix(name, console.GroupPrefix)
	if ok {
		_, g, err := a.Lookup(ref)
		if err != nil {
			return nil, err
		}
		plan, _, err := group.Load(g.Dir)
		if err != nil {
			return nil, err
		}
		return plan.Policy, nil
	}
	text, err := console.ReadLimited(name, a.In, maxPolicy)
	if err != nil {
		return nil, fmt.Errorf("reading the policy: %w", err)
	}
	return text, nil
}

// policyAnswer is the document behind `policy show -o json`.
type policyAnswer struct {
	Schema string         `json:"schema"`
	SHA256 string         `json:"sha256"`
	Policy *policy.Policy `json:"policy"`
}

func (a *App) policyShowCommand() *cobra.Command {
	var text bool
	c := &cobra.Command{
		Use:   "show FILE|-|group:NAME",
		Short: "Show what a policy allows",
		Long: `Show a policy for people: which containers may run, from which layers, with which command,
environment, user and mounts, and which further commands may be started in them.

Texts in the generated form are understood. With --text the exact text is printed.`,
		Example: `  cofferdam policy show policy.rego
  cofferdam policy show --text group:db > policy.rego`,
		Args: console.Arguments(1, 1, "one policy"),
		RunE: func(_ *cobra.Command, args []string) error {
			b, err := a.PolicyText(args[0])
			if err != nil {
				return err
			}
			if text {
				_, err = a.Out.Write(b)
				if err != nil {
					return fmt.Errorf("writing the policy: %w", err)
				}
				return nil
			}
			p, err := policy.Parse(b)
			if err != nil {
				return err
			}
			h := policy.Hash(b)
			v := policyAnswer{Schema: "cofferdam.dev/policy/v1", SHA256: hex.EncodeToString(h[:]), Policy: p}
			return a.Answer(v, func(w io.Writer) error { return showPolicy(w, v.SHA256, p) })
		},
	}
	c.Flags().BoolVar(&text, "text", false, "print the exact text")
	a.OutputFlag(c)
	return c
}

// egressFacts says what a rule allows connections to.
func egressFacts(r policy.EgressRule) string {
	text := r.Protocol + " to " + r.Prefix
	for i, port := range r.Ports {
		separator := ", "
		if i == 0 {
			separator = ", port "
		}
		text += separator + strconv.Itoa(int(port))
	}
	return text
}

func showPolicy(w io.Writer, hash string, p *policy.Policy) error {
	pairs := [][2]string{{"hash", hash}, {"versions", fmt.Sprintf("api %s, framework %s", p.APIVersion, p.FrameworkVersion)}}
	for _, f := range p.Fragments {
		text := fmt.Sprintf("%s from %s, version %s or newer", f.Feed, f.Issuer, f.MinimumSVN)
		if len(f.RequiredReceipts) > 0 {
			text += ", with receipts of " + strings.Join(f.RequiredReceipts, " and ")
		}
		pairs = append(pairs, [2]string{"fragment", text})
	}
	for _, l := range p.TrustLists {
		pairs = append(pairs, [2]string{"trust list", fmt.Sprintf("%s from %s, version %s or newer, for %s",
			l.Subject, l.Issuer, l.MinimumSVN, strings.Join(l.AllowedLedgers, ", "))})
	}
	if p.Egress != nil && len(p.Egress.Rules) == 0 {
		pairs = append(pairs, [2]string{"egress", "none"})
	}
	if p.Egress != nil {
		for _, r := range p.Egress.Rules {
			pairs = append(pairs, [2]string{"egress", egressFacts(r)})
		}
	}
	for i, c := range p.Containers {
		pairs = append(pairs, containerFacts(i, c)...)
	}
	for _, s := range []struct {
		name string
		on   bool
	}{
		{"properties", p.AllowPropertiesAccess}, {"stack dumps", p.AllowDumpStacks}, {"runtime logging", p.AllowRuntimeLogging},
		{"dropping environment variables", p.AllowEnvironmentVariableDropping},
		{"unencrypted scratch", p.AllowUnencryptedScratch}, {"dropping capabilities", p.AllowCapabilityDropping},
	} {
		if s.on {
			pairs = append(pairs, [2]string{"allows", s.name})
		}
	}
	for i := range pairs {
		pairs[i][1] = plain.Printable(pairs[i][1])
	}
	return console.Facts(w, pairs...)
}

func containerFacts(i int, c policy.Container) [][2]string {
	name := c.Name
	if name == "" {
		name = strconv.Itoa(i)
	}
	pairs := [][2]string{
		{"container", strings.TrimSpace(name + " " + c.ID)},
		{"  command", plain.Command(c.Command)}, {"  directory", c.WorkingDir},
		{"  user", describeUser(c.User)}, {"  stdio", strconv.FormatBool(c.AllowStdioAccess)},
	}
	if c.AllowElevated {
		pairs = append(pairs, [2]string{"  elevated", "true: may be privileged"})
	}
	if c.NoNewPrivileges {
		pairs = append(pairs, [2]string{"  no new privileges", "true"})
	}
	if c.SeccompProfileSHA256 != "" {
		pairs = append(pairs, [2]string{"  seccomp", c.SeccompProfileSHA256})
	}
	if len(c.Capabilities.Effective) > 0 {
		pairs = append(pairs, [2]string{"  capabilities", strings.Join(c.Capabilities.Effective, ", ")})
	}
	if len(c.Signals) > 0 {
		pairs = append(pairs, [2]string{"  signals", strings.Trim(fmt.Sprint(c.Signals), "[]")})
	}
	for _, l := range c.Layers {
		pairs = append(pairs, [2]string{"  layer", l})
	}
	for _, e := range c.EnvRules {
		pairs = append(pairs, [2]string{"  env", describeEnv(e)})
	}
	for _, m := range c.Mounts {
		pairs = append(pairs, [2]string{"  mount", fmt.Sprintf("%s from %s (%s)", m.Destination, m.Source, strings.Join(m.Options, ","))})
	}
	for _, e := range c.ExecProcesses {
		pairs = append(pairs, [2]string{"  exec", plain.Command(e.Command)})
	}
	return pairs
}

func describeUser(u policy.User) string {
	if u.UserIDName.Strategy == policy.StrategyAny {
		return "any"
	}
	return fmt.Sprintf("%s (%s), umask %s", u.UserIDName.Pattern, u.UserIDName.Strategy, u.Umask)
}

func describeEnv(e policy.EnvRule) string {
	s := e.Pattern
	kind := e.Strategy
	if e.NameStrategy != "" {
		s, kind = e.Name+"="+e.Value, e.ValueStrategy
	}
	if kind == policy.StrategyRegexp {
		s += " (pattern)"
	}
	if e.Required {
		s += " (required)"
	}
	return s
}
