// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/simsp"
	"cofferdam.dev/internal/trust"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/appraisal"
	"cofferdam.dev/verify/bundle"
)

// policyOptions say by which appraisal policy evidence is judged, and where the appraisal is kept.
type policyOptions struct {
	file                 string
	bundleOut, bundleKey string
	bundleUnsigned       bool
}

func (o *policyOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.file, "appraisal-policy", "", "judge by the appraisal policy in this file instead of by flags")
	f.StringVar(&o.bundleOut, "bundle-out", "", "keep the appraisal in this file, for cofferdam verify bundle; needs an appraisal policy")
	f.StringVar(&o.bundleKey, "bundle-key", "", "sign the bundle with the private key in this file (P-256, PEM)")
	f.BoolVar(&o.bundleUnsigned, "bundle-unsigned", false, "write a bundle that nobody vouches for")
}

// inPolicy are the flags whose place a policy takes.
var inPolicy = []string{"policy", "policy-hash", "measurement", "source"}

// check refuses flags that can not be meant together.
func (o *policyOptions) check(cmd *cobra.Command) error {
	if o.file != "" {
		for _, name := range inPolicy {
			if cmd.Flags().Changed(name) {
				return console.Usage(cmd, fmt.Sprintf("--%s says what the appraisal policy has to say: put it there, or leave --appraisal-policy out", name))
			}
		}
	}
	switch {
	case o.bundleOut == "" && (o.bundleKey != "" || o.bundleUnsigned):
		return console.Usage(cmd, "--bundle-key and --bundle-unsigned are about the file of --bundle-out")
	case o.bundleOut == "":
	case o.file == "":
		return console.Usage(cmd, "--bundle-out keeps an appraisal policy, too: give --appraisal-policy")
	case (o.bundleKey == "") != o.bundleUnsigned:
		return console.Usage(cmd, "say how the bundle is signed: either --bundle-key FILE, or --bundle-unsigned for one that nobody vouches for")
	}
	return nil
}

// judge is how evidence comes to a verdict.
type judge func(ctx context.Context, doc *evidence.Document, r appraisal.Request) (*verify.Verdict, error)

// byPolicy returns how evidence is judged by an appraisal policy, and kept if that was asked for.
func (a *App) byPolicy(ctx context.Context, o *policyOptions) (judge, error) {
	appraiser, err := a.ReadAppraisalPolicy(ctx, o.file)
	if err != nil {
		return nil, err
	}
	if o.bundleOut == "" {
		return func(ctx context.Context, doc *evidence.Document, r appraisal.Request) (*verify.Verdict, error) {
			return appraiser.Appraise(ctx, doc, r), nil
		}, nil
	}
	write, err := a.bundleWriter(o)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, doc *evidence.Document, r appraisal.Request) (*verify.Verdict, error) {
		b, err := bundle.Make(ctx, appraiser, doc, r)
		if err != nil {
			return nil, err
		}
		return b.Verdict, write(b)
	}, nil
}

// bundleWriter reads the key before there is anything to sign.
func (a *App) bundleWriter(o *policyOptions) (func(*bundle.Bundle) error, error) {
	sign := func(b *bundle.Bundle) ([]byte, error) { return b.MarshalUnsigned() }
	signer := "signed by nobody: whoever has the file can change policy, time and verdict"
	if o.bundleKey != "" {
		text, err := console.ReadLimited(o.bundleKey, nil, console.MaxPEM)
		if err != nil {
			return nil, fmt.Errorf("reading the bundle's key: %w", err)
		}
		key, err := bundle.ParsePrivateKey(text)
		if err != nil {
			return nil, console.Fixed(fmt.Errorf("%s: %w", o.bundleKey, err), "openssl ecparam -name prime256v1 -genkey -noout -out %s", o.bundleKey)
		}
		id, err := bundle.KeyID(&key.PublicKey)
		if err != nil {
			return nil, err
		}
		signer = "signed by key " + id
		sign = func(b *bundle.Bundle) ([]byte, error) { return b.Sign(key) }
	}
	return func(b *bundle.Bundle) error {
		data, err := sign(b)
		if err != nil {
			return err
		}
		// Runtime data and policies are in it: it is for its owner to show around.
		if err = os.WriteFile(o.bundleOut, data, 0o600); err != nil {
			return fmt.Errorf("writing the bundle: %w", err)
		}
		a.Say("bundle: %s, %s", o.bundleOut, signer)
		return nil
	}, nil
}

// ReadAppraisalPolicy reads a policy and the files that it names, and compiles its rules.
func (a *App) ReadAppraisalPolicy(ctx context.Context, name string) (*appraisal.Appraiser, error) {
	text, err := console.ReadLimited(name, nil, appraisal.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("reading the appraisal policy: %w", err)
	}
	p, err := appraisal.Parse(text)
	if err == nil {
		err = p.Resolve(filesBeside(name))
	}
	var appraiser *appraisal.Appraiser
	if err == nil {
		appraiser, err = appraisal.New(ctx, p, nil)
	}
	if err == nil {
		return appraiser, nil
	}
	f := &console.Failure{Code: console.ExitError, Err: fmt.Errorf("%s is no appraisal policy that can be used", name)}
	var problems appraisal.Problems
	if errors.As(err, &problems) {
		f.Details = strings.Split(problems.Error(), "\n")
	} else {
		f.Details = strings.Split(err.Error(), "\n")
	}
	return nil, f
}

// filesBeside reads files in a file's directory and below. No link leads out of there.
func filesBeside(name string) func(string) ([]byte, error) {
	return func(file string) ([]byte, error) {
		root, err := os.OpenRoot(filepath.Dir(name))
		if err != nil {
			return nil, err
		}
		defer func() { _ = root.Close() }() // only read
		info, err := root.Stat(filepath.FromSlash(file))
		if err == nil && !info.Mode().IsRegular() {
			err = errors.New("it is no regular file")
		}
		if err != nil {
			return nil, err
		}
		f, err := root.Open(filepath.FromSlash(file))
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // only read
		return io.ReadAll(io.LimitReader(f, appraisal.MaxFileSize+1))
	}
}

// policyDigest is the SHA-256 of a policy's canonical form, in hexadecimal.
func policyDigest(p *appraisal.Policy) (string, error) {
	b, err := p.Canonical()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sha256.Sum256(b)), nil
}

// SimulatedRoots are all simulated roots that this installation knows, and the one that a flag names. They count only for
// a policy that lists their keys.
func (a *App) SimulatedRoots(named string) ([]anchor.Root, error) {
	var list []anchor.Root
	if named != "" {
		r, err := a.ReadSimulatedRoot(named)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	if _, err := os.Stat(simsp.RootCertificatePath(filepath.Join(a.Home, "simsp"))); err == nil {
		r, err := a.ReadSimulatedRoot(LocalRoot)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	known, err := trust.Open(a.Home).List()
	if err != nil {
		return nil, err
	}
	for _, k := range known {
		r, err := k.Anchor()
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}
