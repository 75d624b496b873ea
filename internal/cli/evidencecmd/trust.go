// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/internal/simsp"
	"cofferdam.dev/internal/strictpem"
	"cofferdam.dev/internal/trust"
	"cofferdam.dev/verify/anchor"
)

// TrustCommand returns `trust` with all that is below it.
func (a *App) TrustCommand() *cobra.Command {
	return console.Noun("trust", "Know roots by name: list, add and remove them",
		a.trustListCommand(), a.trustAddCommand(), a.trustRemoveCommand())
}

// The origins of a root.
const (
	originBuiltIn = "built in"
	originLocal   = "this installation"
	originAdded   = "added"
)

// trustedRoot is a root as commands show it.
type trustedRoot struct {
	Name      string        `json:"name"`
	Domain    anchor.Domain `json:"domain"`
	Origin    string        `json:"origin"`
	Subject   string        `json:"subject"`
	SPKI      string        `json:"spki"`
	NotBefore time.Time     `json:"notBefore"`
	NotAfter  time.Time     `json:"notAfter"`
	Added     *time.Time    `json:"added,omitempty"`
}

func rootFacts(name, origin string, domain anchor.Domain, cert *x509.Certificate) trustedRoot {
	return trustedRoot{
		Name: name, Domain: domain, Origin: origin, Subject: plain.Printable(cert.Subject.String()), SPKI: anchor.SPKI(cert),
		NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(),
	}
}

// trustAnswer is the document behind `trust list -o json`.
type trustAnswer struct {
	Schema string        `json:"schema"`
	Roots  []trustedRoot `json:"roots"`
}

func (a *App) trustListCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List the roots that this installation knows",
		Long: `List the roots that this installation knows, with the SHA-256 of their public keys.

The roots of AMD and Intel are built in and count for evidence of their hardware. A
simulated root counts only for a command that names it with --simulated-root.`,
		Example: `  cofferdam trust list
  cofferdam trust list -o json`,
		Args: console.Arguments(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			roots, err := a.knownRoots()
			if err != nil {
				return err
			}
			return a.Answer(trustAnswer{"cofferdam.dev/trust-list/v1", roots}, func(w io.Writer) error {
				rows := [][]string{{"NAME", "DOMAIN", "ORIGIN", "UNTIL", "PUBLIC KEY (SHA-256)"}}
				for _, r := range roots {
					rows = append(rows, []string{r.Name, string(r.Domain), r.Origin, r.NotAfter.Format(time.DateOnly), r.SPKI})
				}
				return console.Table(w, rows)
			})
		},
	}
	a.OutputFlag(c)
	return c
}

// knownRoots are the built-in roots, this installation's own if it has one, and those that were added.
func (a *App) knownRoots() ([]trustedRoot, error) {
	var list []trustedRoot
	for _, r := range append(anchor.AMDRoots(), anchor.IntelRoot()) {
		list = append(list, rootFacts(r.Name, originBuiltIn, r.Domain, r.Certificate))
	}
	cert, err := readRootFile(simsp.RootCertificatePath(filepath.Join(a.Home, "simsp")), nil)
	switch {
	case err == nil:
		list = append(list, rootFacts(LocalRoot, originLocal, anchor.Simulated, cert))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	added, err := trust.Open(a.Home).List()
	if err != nil {
		return nil, err
	}
	for _, r := range added {
		f := rootFacts(r.Name, originAdded, r.Domain, r.Certificate)
		f.Added = &r.Added
		list = append(list, f)
	}
	return list, nil
}

func (a *App) trustAddCommand() *cobra.Command {
	var domain, spki string
	c := &cobra.Command{
		Use:   "add NAME FILE|- --domain simulated",
		Short: "Know another installation's simulated root by a name",
		Long: `Know the simulated root in a PEM file by a name, for --simulated-root NAME.

Whoever holds the keys of a simulated root can make any evidence. Get the file over a way
that you trust, or give the SHA-256 of its public key with --spki. To know a root grants
nothing: each command that is to accept it has to name it.

The trust domain has to be said. Only "simulated" takes roots: those of AMD and Intel are
built in, and their domains have no others. Roots whose private keys are published are
refused with TRUST_ANCHOR_DENIED, and exit code 3.`,
		Example: `  cofferdam trust add build-server their-root.pem --domain simulated
  cofferdam trust add build-server - --domain simulated --spki HEX < ark.pem`,
		Args: console.Arguments(2, 2, "a name and a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.addTrust(cmd, args[0], args[1], domain, spki)
		},
	}
	c.Flags().StringVar(&domain, "domain", "", "what the root is trusted for: simulated")
	c.Flags().StringVar(&spki, "spki", "", "refuse the root unless this is the SHA-256 of its public key, in hexadecimal")
	_ = c.RegisterFlagCompletionFunc("domain", cobra.FixedCompletions([]string{string(anchor.Simulated)}, cobra.ShellCompDirectiveNoFileComp)) // the flag exists: just defined
	a.OutputFlag(c)
	return c
}

func (a *App) addTrust(cmd *cobra.Command, name, file, domain, spki string) error {
	if domain == "" {
		return console.Usage(cmd, "--domain is missing: say what the root is trusted for (simulated)")
	}
	if err := trust.CheckName(name); err != nil {
		return console.Usage(cmd, err.Error())
	}
	cert, err := readRootFile(file, a.In)
	if err != nil {
		return err
	}
	if got := anchor.SPKI(cert); spki != "" && !strings.EqualFold(spki, got) {
		return &console.Failure{Code: console.ExitRefused, Err: fmt.Errorf("the public key of %s has the SHA-256 %s, not %s as asked for", file, got, spki)}
	}
	r, err := trust.Open(a.Home).Add(anchor.Domain(domain), name, cert, a.Now())
	var bad *trust.Untrustworthy
	if errors.As(err, &bad) {
		return &console.Failure{Code: console.ExitRefused, Err: err}
	}
	if err != nil {
		return err
	}
	f := rootFacts(r.Name, originAdded, r.Domain, r.Certificate)
	f.Added = &r.Added
	return a.Answer(trustAnswer{"cofferdam.dev/trust-list/v1", []trustedRoot{f}}, func(w io.Writer) error {
		return console.Facts(w, [2]string{"name", f.Name}, [2]string{"domain", string(f.Domain)}, [2]string{"subject", f.Subject},
			[2]string{"key", f.SPKI})
	})
}

func (a *App) trustRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Forget a root that was added",
		Long: `Forget a root that ` + "`cofferdam trust add`" + ` was given. The built-in roots and this
installation's own can not be removed.`,
		Example: `  cofferdam trust remove build-server`,
		Args:    console.Arguments(1, 1, "a name"),
		RunE: func(_ *cobra.Command, args []string) error {
			err := trust.Open(a.Home).Remove(args[0])
			if errors.Is(err, trust.ErrUnknown) {
				for _, r := range append(anchor.AMDRoots(), anchor.IntelRoot()) {
					if r.Name == args[0] {
						return fmt.Errorf("%q is built in and can not be removed", r.Name)
					}
				}
				if args[0] == LocalRoot {
					return fmt.Errorf("%q is this installation's own root: it goes with the keys in %s", LocalRoot, filepath.Join(a.Home, "simsp"))
				}
				return console.Fixed(err, "cofferdam trust list")
			}
			return err
		},
	}
}

// readRootFile reads one certificate in PEM.
func readRootFile(path string, in io.Reader) (*x509.Certificate, error) {
	b, err := console.ReadLimited(path, in, console.MaxPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the root: %w", err)
	}
	der, err := strictpem.Certificate(b)
	if err != nil {
		return nil, fmt.Errorf("reading the root: %s does not hold one certificate in PEM: %w", path, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the root: %w", err)
	}
	return cert, nil
}
