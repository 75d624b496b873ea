// SPDX-License-Identifier: Apache-2.0

package attestationcmd

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/attestsvc"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/maapolicy"
)

// policyFact is the document behind `attestation policy get -o json`.
type policyFact struct {
	Schema string         `json:"schema"`
	Type   attestsvc.Kind `json:"type"`
	attestsvc.PolicyFact
}

// policyChanged is the document behind `attestation policy set` and `reset`, with -o json.
type policyChanged struct {
	Schema string         `json:"schema"`
	Type   attestsvc.Kind `json:"type"`
	Result string         `json:"result"`
	Hash   string         `json:"hash,omitempty"`
	Signed bool           `json:"signed"`
}

const policyChangedSchema = "cofferdam.dev/attestation-policy-change/v1"

// evidenceKind reads a type of evidence by the service's name for it.
func evidenceKind(cmd *cobra.Command, name string) (attestsvc.Kind, error) {
	k, err := attestsvc.ParseKind(name)
	if err != nil {
		return "", console.Usage(cmd, err.Error())
	}
	return k, nil
}

func (a *App) attestationGetCommand() *cobra.Command {
	var o serviceOptions
	c := &cobra.Command{
		Use:   "get TYPE --service URL",
		Short: "Print the policy that a service decides by",
		Long: `Print the policy of a running service for a type of evidence: SevSnpVm, SgxEnclave,
OpenEnclave, TdxVm or AzureGuest. What the service says is believed because of its TLS;
whoever has a token compares x-ms-policy-hash with the hash of -o json.`,
		Example: `  cofferdam attestation policy get SevSnpVm --service https://127.0.0.1:8443 --ca tls.pem`,
		Args:    console.Arguments(1, 1, "one type of evidence"),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, err := evidenceKind(cmd, args[0])
			if err == nil {
				err = o.check(cmd)
			}
			if err != nil {
				return err
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			token, err := a.ask(ctx, &o, http.MethodGet, "/policies/"+string(kind), "")
			if err != nil {
				return err
			}
			fact, err := attestsvc.ReadPolicyStatement(token)
			if err != nil {
				return err
			}
			return a.Answer(policyFact{"cofferdam.dev/attestation-policy/v1", kind, *fact}, func(w io.Writer) error {
				_, err := io.WriteString(w, fact.Text)
				return err
			})
		},
	}
	o.flags(c)
	a.OutputFlag(c)
	return c
}

func (a *App) attestationSetCommand() *cobra.Command {
	o := serviceOptions{administers: true, signs: true}
	c := &cobra.Command{
		Use:   "set TYPE FILE|- --service URL",
		Short: "Set the policy that a service decides by",
		Long: `Set the policy of a running service for a type of evidence. The policy is checked before
it is sent. Once the tenant has policy certificates (see
` + "`cofferdam attestation signer add`" + `), the change must be signed by one of them.

Exits with 3 when the policy has a mistake, or the service refuses.`,
		Example: `  cofferdam attestation policy set SevSnpVm policy.txt --service https://127.0.0.1:8443 \
    --ca tls.pem --token-file admin-token
  cofferdam attestation policy set SevSnpVm policy.txt --service https://attest.example \
    --token-file admin-token --sign-key key.pem --sign-certificate cert.pem`,
		Args: console.Arguments(2, 2, "a type of evidence and a policy"),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := console.ReadLimited(args[1], a.In, maapolicy.MaxSize)
			if err != nil {
				return fmt.Errorf("reading the policy: %w", err)
			}
			var syntax *maapolicy.SyntaxError
			if _, err = maapolicy.Parse(text); errors.As(err, &syntax) {
				return &console.Failure{Code: console.ExitRefused, Err: fmt.Errorf("%s:%w", args[1], err)}
			}
			if err != nil {
				return err
			}
			return a.changePolicy(cmd, &o, args[0], attestsvc.PolicyHash(string(text)), func(s *attestsvc.PolicySigner) (string, error) {
				return s.PolicyToken(text)
			})
		},
	}
	o.flags(c)
	a.OutputFlag(c)
	return c
}

func (a *App) attestationResetCommand() *cobra.Command {
	o := serviceOptions{administers: true, signs: true}
	c := &cobra.Command{
		Use:   "reset TYPE --service URL",
		Short: "Go back to the policy that a service begins with",
		Long: `Take the policy of a running service for a type of evidence away: it goes back to the
default policy, which permits whatever passes the service's baseline.`,
		Example: `  cofferdam attestation policy reset SevSnpVm --service https://127.0.0.1:8443 \
    --ca tls.pem --token-file admin-token`,
		Args: console.Arguments(1, 1, "one type of evidence"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changePolicy(cmd, &o, args[0], "", (*attestsvc.PolicySigner).ResetToken)
		},
	}
	o.flags(c)
	a.OutputFlag(c)
	return c
}

// changePolicy sets a policy when there is a hash of one, and else resets it.
func (a *App) changePolicy(cmd *cobra.Command, o *serviceOptions, name, hash string, body func(*attestsvc.PolicySigner) (string, error)) error {
	kind, err := evidenceKind(cmd, name)
	if err == nil {
		err = o.check(cmd)
	}
	if err != nil {
		return err
	}
	signer, err := o.signer()
	if err != nil {
		return err
	}
	text, err := body(signer)
	if err != nil {
		return err
	}
	method, path := http.MethodPut, "/policies/"+string(kind)
	if hash == "" {
		method, path = http.MethodPost, path+":reset"
	}
	ctx, stop := console.Interruptible(cmd.Context())
	defer stop()
	token, err := a.ask(ctx, o, method, path, text)
	if err != nil {
		return err
	}
	var says struct {
		Result string `json:"x-ms-policy-result"`
	}
	if err := attestsvc.StatementClaims(token, &says); err != nil {
		return err
	}
	return a.Answer(policyChanged{policyChangedSchema, kind, says.Result, hash, signer != nil}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s: %s\n", kind, says.Result)
		return err
	})
}

// policySigner is one of the certificates behind `attestation signer list -o json`.
type policySigner struct {
	SHA256   string    `json:"sha256"`
	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"notAfter"`
}

// policySigners is the document behind `attestation signer list -o json`.
type policySigners struct {
	Schema  string         `json:"schema"`
	Signers []policySigner `json:"signers"`
}

func (a *App) attestationSignerCommand() *cobra.Command {
	return console.Noun("signer", "Say whose signatures changes of policies need",
		a.attestationSignerListCommand(), a.attestationSignerChange("add"), a.attestationSignerChange("remove"))
}

func (a *App) attestationSignerListCommand() *cobra.Command {
	o := serviceOptions{administers: true}
	c := &cobra.Command{
		Use:   "list --service URL",
		Short: "List the certificates that may sign policies",
		Long: `List the certificates of which one must sign each change of a policy. Without any, whoever
administers changes policies. A certificate stands for its key: its dates do not count.`,
		Example: `  cofferdam attestation signer list --service https://127.0.0.1:8443 --ca tls.pem \
    --token-file admin-token`,
		Args: console.Arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			token, err := a.ask(ctx, &o, http.MethodGet, "/certificates", "")
			if err != nil {
				return err
			}
			list, err := readSigners(token)
			if err != nil {
				return err
			}
			return a.Answer(policySigners{"cofferdam.dev/attestation-signers/v1", list}, func(w io.Writer) error {
				rows := [][]string{{"CERTIFICATE (SHA-256)", "SUBJECT", "UNTIL"}}
				for _, s := range list {
					rows = append(rows, []string{s.SHA256, s.Subject, s.NotAfter.Format(time.DateOnly)})
				}
				return console.Table(w, rows)
			})
		},
	}
	o.flags(c)
	a.OutputFlag(c)
	return c
}

func readSigners(token string) ([]policySigner, error) {
	var says struct {
		Set struct {
			Keys []struct {
				X5C []string `json:"x5c"`
			} `json:"keys"`
		} `json:"x-ms-policy-certificates"`
	}
	if err := attestsvc.StatementClaims(token, &says); err != nil {
		return nil, err
	}
	list := []policySigner{}
	for _, k := range says.Set.Keys {
		if len(k.X5C) == 0 {
			return nil, errors.New("the service lists a key without a certificate")
		}
		der, err := base64.StdEncoding.DecodeString(k.X5C[0])
		if err != nil {
			return nil, fmt.Errorf("reading the service's certificates: %w", err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("reading the service's certificates: %w", err)
		}
		sum := sha256.Sum256(der)
		list = append(list, policySigner{hex.EncodeToString(sum[:]), cert.Subject.String(), cert.NotAfter.UTC()})
	}
	return list, nil
}

func (a *App) attestationSignerChange(verb string) *cobra.Command {
	o := serviceOptions{administers: true, signs: true, mustSign: true}
	short := map[string]string{
		"add":    "Let a certificate sign policies",
		"remove": "Let a certificate sign policies no longer",
	}[verb]
	c := &cobra.Command{
		Use:   verb + " CERTIFICATE --service URL --sign-key KEY --sign-certificate CERT",
		Short: short,
		Long: short + `.

The change is signed by one of the tenant's certificates; the first certificate of a
tenant signs itself in, and the last can not be removed.`,
		Example: "  cofferdam attestation signer " + verb + ` new.pem --service https://127.0.0.1:8443 \
    --ca tls.pem --token-file admin-token --sign-key key.pem --sign-certificate cert.pem`,
		Args: console.Arguments(1, 1, "one certificate in PEM"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			cert, err := readCertificateFile(args[0])
			if err != nil {
				return err
			}
			signer, err := o.signer()
			if err != nil {
				return err
			}
			text, err := signer.CertificateToken(cert)
			if err != nil {
				return err
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			token, err := a.ask(ctx, &o, http.MethodPost, "/certificates:"+verb, text)
			if err != nil {
				return err
			}
			var says struct {
				Result string `json:"x-ms-certificate-result"`
			}
			if err := attestsvc.StatementClaims(token, &says); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.Out, "%s: %s\n", cert.Subject, says.Result)
			return err
		},
	}
	o.flags(c)
	return c
}
