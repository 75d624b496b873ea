// SPDX-License-Identifier: Apache-2.0

package policycmd

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/evidence/cose1"
	"cofferdam.dev/evidence/didx509"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/policy"
	"cofferdam.dev/policy/fragment"
)

// pauseContainer is what the platform adds to every group; a fragment leaves it to the policy.
const pauseContainer = "pause-container"

func (a *App) fragmentGenerateCommand() *cobra.Command {
	f := policy.FragmentText{FrameworkVersion: policy.DeployedFramework}
	var file string
	var nested bool
	c := &cobra.Command{
		Use:   "generate --namespace NAME --svn N POLICY|-",
		Short: "Print a fragment that adds the containers of a policy to others",
		Long: `Print the text of a fragment with the containers of a policy, which ` + "`policy generate`" + ` makes
of an image, a template or any other input. Azure's pause container is left out.

The security version (svn) is what policies compare: raise it when older fragments of the
same feed must no longer be loaded. The text is public, like a policy's.`,
		Example: `  cofferdam policy generate oci-archive:redis.tar > policy.rego
  cofferdam policy fragment generate --namespace redis --svn 1 policy.rego > redis.rego`,
		Args: console.Arguments(1, 1, "a policy"),
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := a.PolicyText(args[0])
			if err != nil {
				return err
			}
			p, err := policy.Parse(text)
			if err != nil {
				return console.Fixed(err, "cofferdam policy generate ... | cofferdam policy fragment generate ... -")
			}
			for _, container := range p.Containers {
				if container.Name != pauseContainer {
					f.Containers = append(f.Containers, container)
				}
			}
			if nested {
				f.Fragments = p.Fragments
			}
			out, err := f.Text()
			if err != nil {
				return fmt.Errorf("making the fragment: %w", err)
			}
			return a.writeOut(file, out)
		},
	}
	c.Flags().StringVarP(&f.Namespace, "namespace", "n", "", "name of the fragment's package")
	c.Flags().StringVar(&f.SVN, "svn", "", "security version, a number from 0 on")
	c.Flags().BoolVar(&nested, "nested", false, "also pass on the fragments that the policy imports")
	c.Flags().StringVar(&file, "file", "-", "write the text to a file")
	for _, name := range []string{"namespace", "svn"} {
		_ = c.MarkFlagRequired(name) // the flag exists: just defined
	}
	return c
}

// signOptions is what a person asks `policy fragment sign` for.
type signOptions struct {
	key, chain, algorithm string
	issuer, feed          string
	claims                bool
	at, file              string
}

// fragmentSigned is the document behind `policy fragment sign -o json`.
type fragmentSigned struct {
	Schema string `json:"schema"`
	File   string `json:"file"`
	fragmentFacts
}

func (a *App) fragmentSignCommand() *cobra.Command {
	var o signOptions
	c := &cobra.Command{
		Use:   "sign --key KEY --chain CHAIN --feed FEED FILE|-",
		Short: "Sign a fragment",
		Long: `Sign a fragment with a private key and the certificate chain of its public key, both in PEM,
and write the message (COSE_Sign1) to FILE.cose.

Policies name a signer by did:x509: the fingerprint of an authority and something of the
signer's certificate. By default that is the last certificate of the chain and the common
name. The feed names the series of fragments, by custom a repository.

By default issuer and feed are written as the deployed platform reads them. --claims writes
them as CWT claims, with the security version of the text in the signed header.

The time of signing is part of the message; the chain must be valid at it.`,
		Example: `  cofferdam policy fragment sign --key key.pem --chain chain.pem --feed redis redis.rego`,
		Args:    console.Arguments(1, 1, "a fragment"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.signFragment(cmd, &o, args[0])
		},
	}
	o.flags(c)
	f := c.Flags()
	f.StringVar(&o.feed, "feed", "", "series that the fragment belongs to")
	f.BoolVar(&o.claims, "claims", false, "write issuer, feed and security version as CWT claims")
	f.StringVar(&o.file, "file", "", "write the message to this file; - is standard output (default: FILE.cose)")
	_ = c.MarkFlagRequired("feed") // the flag exists: just defined
	a.OutputFlag(c)
	return c
}

// flags are those that say who signs, and how.
func (o *signOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVarP(&o.key, "key", "k", "", "private key of the signer (PEM)")
	f.StringVar(&o.chain, "chain", "", "certificates, the signer's first and the root last (PEM)")
	f.StringVar(&o.issuer, "issuer", "", "did:x509 to name the signer by (default: by root and common name)")
	f.StringVar(&o.algorithm, "algorithm", cose1.ES384.String(), "signature algorithm: "+strings.Join(cose1.Algorithms(), ", "))
	f.StringVar(&o.at, "at", "", "time of signing, e.g. 2026-01-31T12:00:00Z (default: now)")
	for _, name := range []string{"key", "chain"} {
		_ = c.MarkFlagRequired(name) // the flag exists: just defined
	}
	_ = c.RegisterFlagCompletionFunc("algorithm", cobra.FixedCompletions(cose1.Algorithms(), cobra.ShellCompDirectiveNoFileComp)) // likewise
}

func (a *App) signFragment(cmd *cobra.Command, o *signOptions, name string) error {
	file := o.file
	if file == "" {
		if name == "-" {
			return console.Usage(cmd, "--file must say where to write what is read from standard input")
		}
		file = name + ".cose"
	}
	text, err := console.ReadLimited(name, a.In, policy.MaxTextSize)
	if err != nil {
		return fmt.Errorf("reading the fragment: %w", err)
	}
	s, err := o.signer(cmd)
	if err == nil && o.claims {
		s.SVN, err = svnOf(text)
	}
	if err != nil {
		return err
	}
	message, err := s.Sign(rand.Reader, text)
	if err != nil {
		return err
	}
	err = a.writeOut(file, message)
	if err != nil || file == "-" {
		return err
	}
	signed, err := fragment.Open(message)
	if err != nil {
		return err
	}
	v := fragmentSigned{Schema: "cofferdam.dev/policy-fragment-signed/v1", File: file, fragmentFacts: factsOf(SignedFile{file, message}, signed, nil)}
	return a.Answer(v, func(w io.Writer) error { return v.show(w) })
}

// signer reads key and chain and settles how the message names them.
func (o *signOptions) signer(cmd *cobra.Command) (*fragment.Signer, error) {
	alg, err := cose1.AlgorithmNamed(o.algorithm)
	if err != nil {
		return nil, console.Usage(cmd, "--algorithm: "+err.Error())
	}
	at := time.Now().UTC().Truncate(time.Second)
	if o.at != "" {
		at, err = time.Parse(time.RFC3339, o.at)
		if err != nil {
			return nil, console.Usage(cmd, fmt.Sprintf("--at is %q; want a time such as 2026-01-31T12:00:00Z", o.at))
		}
	}
	key, err := readKey(o.key)
	if err != nil {
		return nil, err
	}
	chain, err := readChain(o.chain)
	if err != nil {
		return nil, err
	}
	issuer := o.issuer
	if issuer == "" {
		issuer, err = didx509.Subject(chain)
		if err != nil {
			return nil, err
		}
	}
	return &fragment.Signer{Key: key, Chain: chain, Algorithm: alg, Issuer: issuer, Feed: o.feed, At: at, Claims: o.claims}, nil
}

// svnOf is the security version of a fragment's text, for its signed header.
func svnOf(text []byte) (*int64, error) {
	d, err := fragment.Describe(text)
	if err != nil {
		return nil, err
	}
	svn, err := strconv.ParseInt(d.SVN, 10, 64)
	if err != nil {
		return nil, errors.New("--claims needs an svn in the fragment's text, which has none as a plain number")
	}
	return &svn, nil
}
