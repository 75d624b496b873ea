// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/plain"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
)

// maxPolicy is what the guest takes.
const maxPolicy = 1 << 20

// groupPrefix marks an argument that names a group instead of a file.
const groupPrefix = "group:"

func (a *app) policyCommand() *cobra.Command {
	return noun("policy", "Make execution policies, look at them, hash them",
		a.policyGenerateCommand(), a.policyShowCommand(), a.policyHashCommand(), a.policyFragmentCommand())
}

// policyText reads a policy from a file, standard input (-), or the plan of a group (group:NAME).
func (a *app) policyText(name string) ([]byte, error) {
	ref, ok := strings.CutPrefix(name, groupPrefix)
	if ok {
		_, g, err := a.lookup(ref)
		if err != nil {
			return nil, err
		}
		plan, _, err := group.Load(g.Dir)
		if err != nil {
			return nil, err
		}
		return plan.Policy, nil
	}
	text, err := readLimited(name, a.In, maxPolicy)
	if err != nil {
		return nil, fmt.Errorf("reading the policy: %w", err)
	}
	return text, nil
}

// policyHashAnswer is the document behind `policy hash -o json`.
type policyHashAnswer struct {
	Schema string `json:"schema"`
	SHA256 string `json:"sha256"`
	Bytes  int    `json:"bytes"`
}

func (a *app) policyHashCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "hash FILE|-|group:NAME",
		Short: "Print the hash of a policy",
		Long: `Print the SHA-256 of a policy's text in hexadecimal: the HOST_DATA of a launch under it, and
what a relying party pins. Every byte counts, also the last newline.`,
		Example: `  cofferdam policy hash policy.rego
  cofferdam policy generate oci-archive:redis.tar | cofferdam policy hash -`,
		Args: arguments(1, 1, "one policy"),
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := a.policyText(args[0])
			if err != nil {
				return err
			}
			h := policy.Hash(text)
			v := policyHashAnswer{Schema: "cofferdam.dev/policy-hash/v1", SHA256: hex.EncodeToString(h[:]), Bytes: len(text)}
			return a.answer(v, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, v.SHA256)
				return err
			})
		},
	}
	a.outputFlag(c)
	return c
}

// policyAnswer is the document behind `policy show -o json`.
type policyAnswer struct {
	Schema string         `json:"schema"`
	SHA256 string         `json:"sha256"`
	Policy *policy.Policy `json:"policy"`
}

func (a *app) policyShowCommand() *cobra.Command {
	var text bool
	c := &cobra.Command{
		Use:   "show FILE|-|group:NAME",
		Short: "Show what a policy allows",
		Long: `Show a policy for people: which containers may run, from which layers, with which command,
environment, user and mounts, and which further commands may be started in them.

Texts in the generated form are understood. With --text the exact text is printed.`,
		Example: `  cofferdam policy show policy.rego
  cofferdam policy show --text group:db > policy.rego`,
		Args: arguments(1, 1, "one policy"),
		RunE: func(_ *cobra.Command, args []string) error {
			b, err := a.policyText(args[0])
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
			return a.answer(v, func(w io.Writer) error { return showPolicy(w, v.SHA256, p) })
		},
	}
	c.Flags().BoolVar(&text, "text", false, "print the exact text")
	a.outputFlag(c)
	return c
}

func showPolicy(w io.Writer, hash string, p *policy.Policy) error {
	pairs := [][2]string{{"hash", hash}, {"versions", fmt.Sprintf("api %s, framework %s", p.APIVersion, p.FrameworkVersion)}}
	for _, f := range p.Fragments {
		pairs = append(pairs, [2]string{"fragment", fmt.Sprintf("%s from %s, version %s or newer", f.Feed, f.Issuer, f.MinimumSVN)})
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
	return facts(w, pairs...)
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

func (a *app) policyGenerateCommand() *cobra.Command {
	o := runOptions{tee: qemu.Auto, accel: qemu.Auto, cpus: defaultCPUs, network: group.NetworkNAT}
	var hash bool
	var file string
	c := &cobra.Command{
		Use:   "generate [flags] IMAGE [--] [COMMAND...]",
		Short: "Print the policy that `run` would use",
		Long: `Print the policy that ` + "`cofferdam run`" + ` would generate for an image with the same flags.

The image is opened and its layers are converted, since the policy pins their root
hashes. Somebody else, with the same image and flags, gets the same text: compare hashes.`,
		Example: `  cofferdam policy generate oci-archive:redis.tar > policy.rego
  cofferdam policy generate --hash --allow-exec "redis-cli ping" oci-archive:redis.tar`,
		Args: arguments(1, -1, "an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			o.image, o.command = args[0], afterDashes(args[1:])
			g, err := o.group(cmd, a)
			if err != nil {
				return err
			}
			return a.generatePolicy(ctx, &o, g, hash, file)
		},
	}
	o.policyFlags(c)
	c.Flags().BoolVar(&hash, "hash", false, "print the policy's SHA-256 instead of its text")
	c.Flags().StringVar(&file, "file", "", "write the text to a file, too")
	return c
}

func (a *app) generatePolicy(ctx context.Context, o *runOptions, g *spec.Group, hash bool, file string) error {
	prep, err := a.prepare(ctx, o, g)
	if err != nil {
		return err
	}
	if file != "" {
		err = os.WriteFile(file, prep.text, 0o644) //nolint:gosec // a policy is public
		if err != nil {
			return fmt.Errorf("writing the policy: %w", err)
		}
	}
	if hash {
		_, err = fmt.Fprintf(a.Out, "%x\n", policy.Hash(prep.text))
	} else {
		_, err = a.Out.Write(prep.text)
	}
	if err != nil {
		return fmt.Errorf("writing the policy: %w", err)
	}
	return nil
}
