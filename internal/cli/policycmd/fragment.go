// SPDX-License-Identifier: Apache-2.0

package policycmd

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"cofferdam.dev/evidence/didx509"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/image"
	"cofferdam.dev/policy/fragment"
)

func (a *App) policyFragmentCommand() *cobra.Command {
	return console.Noun("fragment", "Make, sign, verify and pass on policy fragments",
		a.fragmentGenerateCommand(), a.fragmentSignCommand(), a.fragmentVerifyCommand(), a.fragmentImportCommand(),
		a.fragmentRecordCommand(), a.fragmentAttachCommand())
}

// SignedFile is a message that may be a signed fragment, and where it came from.
type SignedFile struct {
	Name string
	Data []byte
}

// fragmentSource says where signed fragments are: a file, or beside an image.
type fragmentSource struct {
	attachedTo string
	plainHTTP  bool
}

func (s *fragmentSource) flags(c *cobra.Command) {
	c.Flags().StringVar(&s.attachedTo, "attached-to", "", "look at the fragments that are attached to this image (oci:DIR[:TAG], or in a registry)")
	c.Flags().BoolVar(&s.plainHTTP, "plain-http", false, "speak to the image's registry without TLS")
}

// read returns what the source and the arguments name.
func (a *App) readFragments(ctx context.Context, cmd *cobra.Command, s *fragmentSource, args []string) ([]SignedFile, error) {
	if (len(args) == 1) == (s.attachedTo != "") {
		return nil, console.Usage(cmd, "want either a signed fragment or --attached-to")
	}
	if len(args) == 1 {
		data, err := console.ReadLimited(args[0], a.In, fragment.MaxSize)
		if err != nil {
			return nil, fmt.Errorf("reading the fragment: %w", err)
		}
		return []SignedFile{{args[0], data}}, nil
	}
	found, err := image.Attached(ctx, s.attachedTo, fragment.ArtifactType, fragment.MediaType, image.Options{PlainHTTP: s.plainHTTP})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no fragment is attached to %s", s.attachedTo)
	}
	var list []SignedFile
	for _, f := range found {
		list = append(list, SignedFile{f.Digest, f.Data})
	}
	return list, nil
}

// openFragment verifies a signed fragment. What does not verify is refused, which is no failure of ours.
func openFragment(f SignedFile) (*fragment.Signed, error) {
	s, err := fragment.Open(f.Data)
	if err != nil {
		return nil, &console.Failure{Code: console.ExitRefused, Err: fmt.Errorf("%s: %w", f.Name, err)}
	}
	return s, nil
}

// FragmentToLoad reads a fragment for the guest. The guest verifies it again; here a mistake is told before a launch.
func (a *App) FragmentToLoad(name string) ([]byte, error) {
	data, err := console.ReadLimited(name, nil, fragment.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("reading the fragment: %w", err)
	}
	_, err = openFragment(SignedFile{name, data})
	return data, err
}

// readKey reads a private key in PEM.
func readKey(name string) (crypto.Signer, error) {
	data, err := console.ReadLimited(name, nil, console.MaxPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("reading the key: %s has no PEM block", name)
	}
	var key any
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		err = fmt.Errorf("a PEM block of type %q is no private key; an encrypted key must be decrypted before", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the key from %s: %w", name, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("reading the key from %s: a key of type %T can not sign", name, key)
	}
	return signer, nil
}

// readChain reads certificates in PEM, leaf first.
func readChain(name string) ([]*x509.Certificate, error) {
	data, err := console.ReadLimited(name, nil, console.MaxPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the certificates: %w", err)
	}
	var der [][]byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("reading the certificates: %s holds a PEM block of type %q", name, block.Type)
		}
		der = append(der, block.Bytes)
	}
	chain, err := didx509.ParseChain(der)
	if err == nil && len(chain) < 2 {
		err = errors.New("want the signer's certificate and, after it, those of its authorities up to the root")
	}
	if err != nil {
		return nil, fmt.Errorf("reading the certificates from %s: %w", name, err)
	}
	return chain, nil
}

// writeOut writes a result to a file, or to standard output for -.
func (a *App) writeOut(name string, data []byte) error {
	var err error
	if name == "-" {
		_, err = a.Out.Write(data)
	} else {
		err = os.WriteFile(name, data, 0o644) //nolint:gosec // fragments are public
	}
	if err != nil {
		return fmt.Errorf("writing the fragment: %w", err)
	}
	return nil
}
