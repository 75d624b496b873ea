// SPDX-License-Identifier: Apache-2.0

package policycmd

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/image"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/policy/fragment"
)

// fragmentFacts is what a person needs to know about a signed fragment.
type fragmentFacts struct {
	Source    string   `json:"source"`
	Issuer    string   `json:"issuer"`
	Feed      string   `json:"feed"`
	SVN       string   `json:"svn"`
	HeaderSVN *int64   `json:"header_svn,omitempty"`
	Namespace string   `json:"namespace"`
	Defines   []string `json:"defines"`
	Algorithm string   `json:"algorithm"`
	SignedAt  string   `json:"signed_at,omitempty"`
	SHA256    string   `json:"sha256"`

	Receipts   []receiptFacts `json:"receipts"`
	Unverified int            `json:"unverified_receipts"`
}

func factsOf(file SignedFile, s *fragment.Signed, keys ledgerKeys) fragmentFacts {
	f := fragmentFacts{
		Source: file.Name, Issuer: s.Issuer, Feed: s.Feed, HeaderSVN: s.SVN, Algorithm: s.Algorithm.String(),
		SHA256: hex.EncodeToString(s.SHA256[:]), Defines: []string{},
		Receipts: append([]receiptFacts{}, keys.receiptsOf(file.Data, s)...),
	}
	for _, r := range f.Receipts {
		if !r.Verified {
			f.Unverified++
		}
	}
	if !s.SignedAt.IsZero() {
		f.SignedAt = s.SignedAt.Format(time.RFC3339)
	}
	d, err := fragment.Describe(s.Text)
	if err == nil { // else the guest will refuse it; what is missing shows
		f.SVN, f.Namespace, f.Defines = d.SVN, d.Namespace, append(f.Defines, d.Defines...)
	}
	return f
}

func (f *fragmentFacts) show(w io.Writer) error {
	svn := f.SVN
	if f.HeaderSVN != nil {
		svn += fmt.Sprintf(" (in the signed header: %d)", *f.HeaderSVN)
	}
	pairs := [][2]string{
		{"fragment", f.Source}, {"issuer", f.Issuer}, {"feed", f.Feed}, {"svn", svn}, {"namespace", f.Namespace},
		{"defines", strings.Join(f.Defines, ", ")}, {"algorithm", f.Algorithm}, {"signed", f.SignedAt}, {"sha256", f.SHA256},
	}
	for _, r := range f.Receipts {
		pairs = append(pairs, [2]string{"receipt", r.String()})
	}
	for i := range pairs {
		pairs[i][1] = plain.Printable(pairs[i][1])
	}
	return console.Facts(w, pairs...)
}

// wanted is what a signed fragment is held against.
type wanted struct {
	issuer, feed, minimum string
	receiptKeys           []string // [LEDGER=]FILE
	keys                  ledgerKeys
}

func (o *wanted) check(f *fragmentFacts) error {
	switch {
	case o.issuer != "" && o.issuer != f.Issuer:
		return fmt.Errorf("issuer is %s, expected %s", f.Issuer, o.issuer)
	case o.feed != "" && o.feed != f.Feed:
		return fmt.Errorf("feed is %q, expected %q", f.Feed, o.feed)
	case f.HeaderSVN != nil && f.SVN != strconv.FormatInt(*f.HeaderSVN, 10):
		return fmt.Errorf("svn is %d in the signed header and %q in the text", *f.HeaderSVN, f.SVN)
	case len(o.keys) > 0 && f.Unverified == len(f.Receipts):
		return fmt.Errorf("none of %d receipts verifies with the keys given%s", len(f.Receipts), problems(f.Receipts))
	case o.minimum == "":
		return nil
	}
	have, err := strconv.ParseUint(f.SVN, 10, 63)
	want, wantErr := strconv.ParseUint(o.minimum, 10, 63)
	if err != nil || wantErr != nil || have < want {
		return fmt.Errorf("svn is %q, expected %s or newer", f.SVN, o.minimum)
	}
	return nil
}

func problems(list []receiptFacts) (s string) {
	for _, r := range list {
		s += "; " + r.String()
	}
	return s
}

// fragmentsAnswer is the document behind `policy fragment verify -o json`.
type fragmentsAnswer struct {
	Schema    string          `json:"schema"`
	Fragments []fragmentFacts `json:"fragments"`
}

func (a *App) fragmentVerifyCommand() *cobra.Command {
	var source fragmentSource
	var o wanted
	c := &cobra.Command{
		Use:   "verify FILE|-",
		Short: "Verify signed fragments and say what they are",
		Long: `Verify that a fragment was signed with the key of the certificate that it carries, that the
certificate's chain was valid at the time of signing, and that the issuer it names is that
signer. Then say who it is. Exit code 3 if it does not verify.

Anybody can sign a fragment: compare the issuer, or let --issuer, --feed and --minimum-svn
compare.

Receipts of ledgers that came with the fragment are shown. They are verified with the keys
that --receipts-keys names: a JSON Web Key set, the JSON list of a SCITT ledger's service
certificates, or certificates in PEM. One at least must verify then. Keys of LEDGER=FILE
count only for receipts that name that ledger.`,
		Example: `  cofferdam policy fragment verify redis.rego.cose
  cofferdam policy fragment verify --receipts-keys ledger.example=keys.json redis.rego.cose
  cofferdam policy fragment verify --attached-to registry.example/redis:7 --feed redis`,
		Args: console.Arguments(0, 1, "a signed fragment"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := strconv.ParseUint(o.minimum, 10, 63); o.minimum != "" && err != nil {
				return console.Usage(cmd, fmt.Sprintf("--minimum-svn is %q; want a number", o.minimum))
			}
			var err error
			o.keys, err = readLedgerKeys(o.receiptKeys)
			if err != nil {
				return err
			}
			list, err := a.readFragments(cmd.Context(), cmd, &source, args)
			if err != nil {
				return err
			}
			return a.verifyFragments(list, &o)
		},
	}
	source.flags(c)
	c.Flags().StringVar(&o.issuer, "issuer", "", "accept this signer only (did:x509)")
	c.Flags().StringVar(&o.feed, "feed", "", "accept this feed only")
	c.Flags().StringVar(&o.minimum, "minimum-svn", "", "accept this security version and newer ones")
	c.Flags().StringArrayVar(&o.receiptKeys, "receipts-keys", nil, "verify receipts with the keys in this file: [LEDGER=]FILE")
	a.OutputFlag(c)
	return c
}

// verifyFragments shows those that verify and fit. Of several, as anybody may attach to an image, it says what is wrong
// with the others, and refuses if none is left.
func (a *App) verifyFragments(list []SignedFile, o *wanted) error {
	v := fragmentsAnswer{Schema: "cofferdam.dev/policy-fragments/v1"}
	var refused error
	for _, file := range list {
		s, err := openFragment(file)
		if err == nil {
			f := factsOf(file, s, o.keys)
			err = o.check(&f)
			if err == nil {
				v.Fragments = append(v.Fragments, f)
				continue
			}
			err = &console.Failure{Code: console.ExitRefused, Err: fmt.Errorf("%s: %w", file.Name, err)}
		}
		if len(list) > 1 {
			a.Say("refused: %v", plain.Printable(err.Error()))
			err = &console.Failure{Code: console.ExitRefused, Err: errors.New("no fragment is acceptable")}
		}
		refused = err
	}
	if len(v.Fragments) == 0 {
		return refused
	}
	return a.Answer(v, func(w io.Writer) error {
		for i := range v.Fragments {
			err := v.Fragments[i].show(w)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// importStatement is what a policy's list of fragments has, in the order in which confcom prints it.
type importStatement struct {
	Issuer     string   `json:"issuer"`
	Feed       string   `json:"feed"`
	MinimumSVN string   `json:"minimum_svn"`
	Includes   []string `json:"includes"`

	RequiredReceipts []string `json:"required_receipts,omitempty"`
}

func (a *App) fragmentImportCommand() *cobra.Command {
	var minimum string
	var includes, receipts []string
	var asList bool
	c := &cobra.Command{
		Use:   "import FILE|-",
		Short: "Print the statement that makes a policy accept a signed fragment",
		Long: `Verify a signed fragment and print, as JSON, the statement by which a policy accepts it and
the newer ones of its signer and feed. Whoever holds the signer's key can then add what is
included. Exit code 3 if the fragment does not verify.

With --require-receipt, ledgers must besides have recorded each fragment that is to be
loaded. The policy must then accept a trust list with the ledgers' keys.`,
		Example: `  cofferdam policy fragment import redis.rego.cose
  cofferdam policy fragment import --list redis.rego.cose > imports.json
  cofferdam policy fragment import --require-receipt ledger.example redis.rego.cose`,
		Args: console.Arguments(1, 1, "a signed fragment"),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := a.readFragments(cmd.Context(), cmd, &fragmentSource{}, args)
			if err != nil {
				return err
			}
			s, err := openFragment(list[0])
			if err != nil {
				return err
			}
			i, err := s.Import(minimum, includes)
			if err != nil {
				return console.Fixed(err, "cofferdam policy fragment import --minimum-svn N %s", args[0])
			}
			var v any = importStatement{i.Issuer, i.Feed, i.MinimumSVN, i.Includes, receipts}
			if asList {
				v = []any{v}
			}
			a.Output = "json"
			return a.Answer(v, nil)
		},
	}
	c.Flags().StringVar(&minimum, "minimum-svn", "", "oldest security version to accept (default: the fragment's)")
	c.Flags().StringSliceVar(&includes, "include", nil, "what to accept: containers, fragments, external_processes, platform_rules, transparency_trust_lists or namespace (default: what it defines)")
	c.Flags().StringArrayVar(&receipts, "require-receipt", nil, "require a receipt of this ledger; * for any ledger, TTL:SUBJECT for any of that trust list")
	c.Flags().BoolVar(&asList, "list", false, "print a list, as policy generate --fragments-json reads it")
	return c
}

// fragmentAttached is the document behind `policy fragment attach -o json`.
type fragmentAttached struct {
	Schema string `json:"schema"`
	Digest string `json:"digest"`
}

func (a *App) fragmentAttachCommand() *cobra.Command {
	var plainHTTP bool
	c := &cobra.Command{
		Use:   "attach FILE IMAGE",
		Short: "Keep a signed fragment beside an image",
		Long: `Store a signed fragment in an image's registry or layout (oci:DIR[:TAG]), as a manifest that
refers to the image, and print the manifest's digest. Platforms find it from there.
The fragment is verified before.`,
		Example: `  cofferdam policy fragment attach redis.rego.cose registry.example/redis:7`,
		Args:    console.Arguments(2, 2, "a signed fragment and an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			list, err := a.readFragments(ctx, cmd, &fragmentSource{}, args[:1])
			if err != nil {
				return err
			}
			return a.attachFragment(ctx, list[0], args[1], plainHTTP)
		},
	}
	c.Flags().BoolVar(&plainHTTP, "plain-http", false, "speak to the image's registry without TLS")
	a.OutputFlag(c)
	return c
}

func (a *App) attachFragment(ctx context.Context, f SignedFile, ref string, plainHTTP bool) error {
	_, err := openFragment(f)
	if err != nil {
		return err
	}
	digest, err := image.Attach(ctx, ref, image.Attachment{
		ArtifactType: fragment.ArtifactType, MediaType: fragment.MediaType, Name: filepath.Base(f.Name), Data: f.Data,
	}, image.Options{PlainHTTP: plainHTTP})
	if err != nil {
		return err
	}
	v := fragmentAttached{Schema: "cofferdam.dev/policy-fragment-attached/v1", Digest: digest}
	return a.Answer(v, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, digest)
		return err
	})
}
