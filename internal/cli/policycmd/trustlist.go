// SPDX-License-Identifier: Apache-2.0

package policycmd

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/evidence/receipt"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/policy"
	"cofferdam.dev/policy/fragment"
)

func (a *App) policyTrustListCommand() *cobra.Command {
	return console.Noun("trustlist", "Make, sign and verify lists of ledgers whose receipts count",
		a.trustListSignCommand(), a.trustListVerifyCommand(), a.trustListImportCommand())
}

// trustListFacts is what a person needs to know about a signed trust list.
type trustListFacts struct {
	Schema    string              `json:"schema"`
	Source    string              `json:"source"`
	Issuer    string              `json:"issuer"`
	Subject   string              `json:"subject"`
	SVN       int64               `json:"svn"`
	Ledgers   map[string][]string `json:"ledgers"` // the hashes of their keys
	Algorithm string              `json:"algorithm"`
	SignedAt  string              `json:"signed_at,omitempty"`
	SHA256    string              `json:"sha256"`

	names []string
}

func trustListFactsOf(source string, l *fragment.TrustList) *trustListFacts {
	f := &trustListFacts{
		Schema: "cofferdam.dev/policy-trust-list/v1", Source: source, Issuer: l.Issuer, Subject: l.Subject, SVN: l.SVN,
		Ledgers: map[string][]string{}, Algorithm: l.Algorithm.String(), SHA256: hex.EncodeToString(l.SHA256[:]), names: l.Names(),
	}
	for name, keys := range l.Ledgers {
		f.Ledgers[name] = keys.IDs()
	}
	if !l.SignedAt.IsZero() {
		f.SignedAt = l.SignedAt.Format(time.RFC3339)
	}
	return f
}

func (f *trustListFacts) show(w io.Writer) error {
	pairs := [][2]string{
		{"trust list", f.Source}, {"issuer", f.Issuer}, {"subject", f.Subject}, {"svn", strconv.FormatInt(f.SVN, 10)},
		{"algorithm", f.Algorithm}, {"signed", f.SignedAt}, {"sha256", f.SHA256},
	}
	for _, name := range f.names {
		pairs = append(pairs, [2]string{"ledger", name + ", keys " + strings.Join(f.Ledgers[name], " ")})
	}
	for i := range pairs {
		pairs[i][1] = plain.Printable(pairs[i][1])
	}
	return console.Facts(w, pairs...)
}

// OpenTrustList verifies a signed trust list. What does not verify is refused, which is no failure of ours.
func (a *App) OpenTrustList(name string) (*fragment.TrustList, []byte, error) {
	data, err := console.ReadLimited(name, a.In, fragment.MaxTrustListSize)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the trust list: %w", err)
	}
	l, err := fragment.OpenTrustList(data)
	if err != nil {
		return nil, nil, &console.Failure{Code: console.ExitRefused, Err: fmt.Errorf("%s: %w", name, err)}
	}
	return l, data, nil
}

func (a *App) trustListSignCommand() *cobra.Command {
	var o signOptions
	var svn int64
	c := &cobra.Command{
		Use:   "sign --key KEY --chain CHAIN --subject SUBJECT --svn N --file FILE LEDGER=KEYS...",
		Short: "Sign a list of ledgers and their keys",
		Long: `Sign a transparency trust list: ledgers, by the names that their receipts give, and the keys
with which they sign. KEYS is a file: a JSON Web Key set, the JSON list of a SCITT ledger's
service certificates, or certificates in PEM. Several arguments may name one ledger.

Key, chain and issuer are as for ` + "`policy fragment sign`" + `. The subject names the series of
lists, the security version (svn) is what policies compare: raise it when an older list must
no longer be loaded, because a ledger's key was lost.`,
		Example: `  cofferdam policy trustlist sign --key key.pem --chain chain.pem --subject ledgers \
    --svn 1 --file ledgers.cose ledger.example=keys.json`,
		Args: console.Arguments(1, -1, "ledgers and files of their keys"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.signTrustList(cmd, &o, svn, args)
		},
	}
	o.flags(c)
	f := c.Flags()
	f.StringVar(&o.feed, "subject", "", "series that the list belongs to")
	f.Int64Var(&svn, "svn", 0, "security version, a number from 0 on")
	f.StringVar(&o.file, "file", "", "write the message to this file; - is standard output")
	for _, name := range []string{"subject", "svn", "file"} {
		_ = c.MarkFlagRequired(name) // the flag exists: just defined
	}
	a.OutputFlag(c)
	return c
}

func (a *App) signTrustList(cmd *cobra.Command, o *signOptions, svn int64, args []string) error {
	for _, arg := range args {
		name, file, ok := strings.Cut(arg, "=")
		if !ok || name == "" || file == "" {
			return console.Usage(cmd, fmt.Sprintf("%q is not LEDGER=KEYS", arg))
		}
	}
	if svn < 0 {
		return console.Usage(cmd, fmt.Sprintf("--svn is %d; want a number from 0 on", svn))
	}
	keys, err := readLedgerKeys(args)
	if err != nil {
		return err
	}
	s, err := o.signer(cmd)
	if err != nil {
		return err
	}
	s.SVN = &svn
	message, err := s.SignTrustList(rand.Reader, map[string]receipt.KeySet(keys))
	if err != nil {
		return err
	}
	err = a.writeOut(o.file, message)
	if err != nil || o.file == "-" {
		return err
	}
	l, err := fragment.OpenTrustList(message)
	if err != nil {
		return err
	}
	v := trustListFactsOf(o.file, l)
	return a.Answer(v, v.show)
}

func (a *App) trustListVerifyCommand() *cobra.Command {
	var issuer, subject string
	var minimum int64
	c := &cobra.Command{
		Use:   "verify FILE|-",
		Short: "Verify a signed trust list and say what it is",
		Long: `Verify that a trust list was signed with the key of the certificate that it carries, that
the certificate's chain was valid at the time of signing, and that the issuer it names is
that signer. Then say who it is, and which ledgers' keys it names. Exit code 3 if it does
not verify.

Anybody can sign a trust list: compare the issuer, or let --issuer, --subject and
--minimum-svn compare.`,
		Example: `  cofferdam policy trustlist verify ledgers.cose`,
		Args:    console.Arguments(1, 1, "a signed trust list"),
		RunE: func(_ *cobra.Command, args []string) error {
			l, _, err := a.OpenTrustList(args[0])
			if err != nil {
				return err
			}
			switch {
			case issuer != "" && issuer != l.Issuer:
				err = fmt.Errorf("issuer is %s, expected %s", l.Issuer, issuer)
			case subject != "" && subject != l.Subject:
				err = fmt.Errorf("subject is %q, expected %q", l.Subject, subject)
			case l.SVN < minimum:
				err = fmt.Errorf("svn is %d, expected %d or newer", l.SVN, minimum)
			}
			if err != nil {
				return &console.Failure{Code: console.ExitRefused, Err: fmt.Errorf("%s: %w", args[0], err)}
			}
			v := trustListFactsOf(args[0], l)
			return a.Answer(v, v.show)
		},
	}
	c.Flags().StringVar(&issuer, "issuer", "", "accept this signer only (did:x509)")
	c.Flags().StringVar(&subject, "subject", "", "accept this subject only")
	c.Flags().Int64Var(&minimum, "minimum-svn", 0, "accept this security version and newer ones")
	a.OutputFlag(c)
	return c
}

func (a *App) trustListImportCommand() *cobra.Command {
	var minimum string
	var ledgers []string
	var asList bool
	c := &cobra.Command{
		Use:   "import FILE|-",
		Short: "Print the statement that makes a policy accept a trust list",
		Long: `Verify a signed trust list and print, as JSON, the statement by which a policy accepts it
and the newer ones of its signer and subject. Whoever holds the signer's key can then say
which keys the ledgers have that are allowed. Exit code 3 if the list does not verify.`,
		Example: `  cofferdam policy trustlist import --list ledgers.cose > trustlists.json
  cofferdam policy generate --api 0.12.0 --trust-lists-json trustlists.json oci:image`,
		Args: console.Arguments(1, 1, "a signed trust list"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := strconv.ParseUint(minimum, 10, 63); minimum != "" && err != nil {
				return console.Usage(cmd, fmt.Sprintf("--minimum-svn is %q; want a number", minimum))
			}
			l, _, err := a.OpenTrustList(args[0])
			if err != nil {
				return err
			}
			t := policy.TrustList{Issuer: l.Issuer, Subject: l.Subject, MinimumSVN: minimum, AllowedLedgers: ledgers}
			if minimum == "" {
				t.MinimumSVN = strconv.FormatInt(l.SVN, 10)
			}
			if len(ledgers) == 0 {
				t.AllowedLedgers = l.Names()
			}
			var v any = t
			if asList {
				v = []policy.TrustList{t}
			}
			a.Output = "json"
			return a.Answer(v, nil)
		},
	}
	c.Flags().StringVar(&minimum, "minimum-svn", "", "oldest security version to accept (default: the list's)")
	c.Flags().StringArrayVar(&ledgers, "ledger", nil, "ledger that the list may name keys of; * for any (default: those that it names)")
	c.Flags().BoolVar(&asList, "list", false, "print a list, as policy generate --trust-lists-json reads it")
	return c
}

// readTrustLists reads a file of statements about trust lists.
func readTrustLists(name string) ([]policy.TrustList, error) {
	if name == "" {
		return nil, nil
	}
	data, err := console.ReadLimited(name, nil, policy.MaxTextSize)
	if err != nil {
		return nil, fmt.Errorf("reading trust lists: %w", err)
	}
	list, err := policy.ParseTrustLists(data)
	if err != nil {
		return nil, fmt.Errorf("reading trust lists of %s: %w", name, err)
	}
	return list, nil
}
