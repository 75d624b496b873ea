// SPDX-License-Identifier: Apache-2.0

package keycmd

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/attestationcmd"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/internal/vault"
	"cofferdam.dev/internal/vault/client"
	"cofferdam.dev/release"
)

// vaultRelease is the document behind `key release -o json` and `secret release -o json`.
type vaultRelease struct {
	Schema string `json:"schema"`
	// Release is the ID of the release, where the vault is ours.
	Release string `json:"release,omitempty"`
	Object  string `json:"object"`
	Enc     string `json:"enc"`
	// Value is the vault's signed answer.
	Value string `json:"value"`
}

func (a *App) keyReleaseCommand() *cobra.Command { return a.releaseCommand(KeyKind) }

func (a *App) releaseCommand(k ObjectKind) *cobra.Command {
	var v VaultOptions
	var target, enc, nonce, out string
	c := &cobra.Command{
		Use:   "release NAME[/VERSION] --target FILE",
		Short: "Ask for a release with a guest's token, and see whether it is allowed",
		Long: `Ask the vault to release a ` + k.noun + ` to the guest that an attestation service's token speaks
about. What comes back is encrypted to the key in the token, and opens in that guest alone:
use this to see whether a policy permits a guest, or to carry the answer to it (--out). In
the guest, the release sidecar (` + "`cofferdam sidecar skr`" + `) does all of it.

The signature of the answer is for the guest to verify, and is not verified here. Releases
are recorded by the vault, this one as any other.

Exits with 3 when the vault denies; its operator then asks ` + "`cofferdam key explain`" + ` why.
` + aboutVault,
		Example: "  cofferdam " + k.noun + ` release db --target token
  cofferdam ` + k.noun + ` release db --target token --out answer.jws`,
		Args: console.Arguments(1, 1, "the "+k.noun+"'s name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := ParseObject(cmd, k, args[0], true)
			switch {
			case err != nil:
				return err
			case target == "":
				return console.Usage(cmd, "--target is missing: a file with a token of the guest's attestation service")
			case !slices.Contains(release.Formats(), enc):
				return console.Usage(cmd, fmt.Sprintf("--enc is %q; want one of %s", enc, strings.Join(release.Formats(), ", ")))
			}
			vc, err := a.VaultClient(cmd, &v, target)
			if err != nil {
				return err
			}
			token, err := console.ReadLimited(target, a.In, attestationcmd.MaxClaims)
			if err != nil {
				return fmt.Errorf("reading the guest's token: %w", err)
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			var answer struct {
				Value string `json:"value"`
			}
			r := client.Release{Target: strings.TrimSpace(string(token)), Enc: enc, Nonce: nonce}
			id, err := vc.Do(ctx, http.MethodPost, "/"+k.path+"/"+name.String()+"/release", r, &answer)
			if err != nil {
				return VaultFailure(&v, k, name.Name, err)
			}
			doc := &vaultRelease{"cofferdam.dev/vault-release/v1", id, "", enc, answer.Value}
			if doc.Object, err = releasedObject(k, answer.Value); err != nil {
				return err
			}
			return a.answerRelease(doc, out)
		},
	}
	f := c.Flags()
	f.StringVar(&target, "target", "", "file with the token about the guest, - for standard input")
	f.StringVar(&enc, "enc", release.DefaultFormat, "format of the release: "+strings.Join(release.Formats(), ", "))
	f.StringVar(&nonce, "nonce", "", "text that the answer repeats")
	f.StringVar(&out, "out", "", "file for the vault's signed answer")
	v.Flags(c)
	a.OutputFlag(c)
	return c
}

// releasedObject takes the URL of what was released out of the answer.
func releasedObject(k ObjectKind, jws string) (string, error) {
	parts := strings.Split(jws, ".")
	if len(parts) != 3 {
		return "", errors.New("the vault's answer is no signed object")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var p struct {
		Response struct {
			Key struct {
				Key struct {
					ID string `json:"kid"`
				} `json:"key"`
			} `json:"key"`
			Secret struct {
				Secret struct {
					ID string `json:"id"`
				} `json:"secret"`
			} `json:"secret"`
		} `json:"response"`
	}
	if err != nil || json.Unmarshal(payload, &p) != nil {
		return "", errors.New("the vault's answer is of another form")
	}
	if k == secretKind {
		return p.Response.Secret.Secret.ID, nil
	}
	return p.Response.Key.Key.ID, nil
}

func (a *App) answerRelease(doc *vaultRelease, out string) error {
	if out != "" {
		if err := writeSecret(out, []byte(doc.Value+"\n")); err != nil {
			return err
		}
	}
	return a.Answer(doc, func(w io.Writer) error {
		pairs := [][2]string{{"released", plain.Printable(doc.Object)}, {"format", doc.Enc}}
		if doc.Release != "" {
			pairs = append(pairs, [2]string{"release", plain.Printable(doc.Release)})
		}
		return console.Facts(w, pairs...)
	})
}

// decisionAnswer is the document behind `key explain -o json`.
type decisionAnswer struct {
	Schema string `json:"schema"`
	vault.Decision
}

func (a *App) keyExplainCommand() *cobra.Command {
	var v VaultOptions
	c := &cobra.Command{
		Use:   "explain RELEASE-ID",
		Short: "Say why a release was allowed or denied",
		Long: `Say why a release was allowed or denied: which conditions of the policy held, what each
expected, and what the guest's token said. The ID is in the answer to whoever asked for
the release (header X-Cofferdam-Release), and in the audit log.

This is for the operator of our own vault: who asked for a release is not told.
` + aboutVault,
		Example: `  cofferdam key explain 0193f2b8c1d24a6f9e0b7c5d8a4e3f21`,
		Args:    console.Arguments(1, 1, "the ID of a release"),
		RunE: func(cmd *cobra.Command, args []string) error {
			vc, err := a.VaultClient(cmd, &v, "")
			if err != nil {
				return err
			}
			if !isReleaseID(args[0]) {
				return console.Usage(cmd, fmt.Sprintf("%q is no ID of a release: 32 hexadecimal digits", args[0]))
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			doc := decisionAnswer{Schema: "cofferdam.dev/vault-decision/v1"}
			if _, err := vc.Do(ctx, http.MethodGet, "/releases/"+args[0], nil, &doc.Decision); err != nil {
				return VaultFailure(&v, KeyKind, "", err)
			}
			return a.Answer(doc, func(w io.Writer) error { return writeDecision(w, &doc.Decision) })
		},
	}
	v.Flags(c)
	a.OutputFlag(c)
	return c
}

func isReleaseID(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == ""
}

func writeDecision(w io.Writer, d *vault.Decision) error {
	verdict := "allowed"
	if !d.Allowed {
		verdict = fmt.Sprintf("denied (%s): %s", d.Reason, d.Detail)
	}
	pairs := [][2]string{
		{"release", d.ID}, {"time", d.Time.UTC().Format(time.RFC3339)}, {"object", d.Object}, {"version", d.Version}, {"asked by", d.By},
		{"decision", verdict}, {"issuer", d.Issuer}, {"simulated", strconv.FormatBool(d.Simulated)}, {"token", d.TokenID}, {"token (SHA-256)", d.Token},
		{"format", string(d.Enc)}, {"guest's key", d.Recipient}, {"audit log", fmt.Sprintf("%s line %d, %s", d.Receipt.Instance, d.Receipt.Sequence, d.Receipt.Hash)},
	}
	pairs = slices.DeleteFunc(pairs, func(p [2]string) bool { return p[1] == "" })
	for i := range pairs {
		pairs[i][1] = plain.Printable(pairs[i][1])
	}
	if err := console.Facts(w, pairs...); err != nil || d.Outcome == nil {
		return err
	}
	if _, err := fmt.Fprint(w, "\nthe policy is "); err != nil {
		return err
	}
	return writeOutcome(w, d.Outcome)
}
