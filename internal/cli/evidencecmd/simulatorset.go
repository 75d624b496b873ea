// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/simsp"
)

// The faults that the simulated processor can play.
const (
	faultExpiredProvider     = "expired-provider"
	faultRevokedIntermediate = "revoked-intermediate"
	faultNone                = "none"
)

// simulatorSettings are what flags said; only those that were given count.
type simulatorSettings struct {
	product, reported, provider string
	faults                      []string
	version                     uint32
	sockets                     int
	machine                     simsp.Machine // for the switches
}

func (a *App) simulatorSetCommand() *cobra.Command {
	var s simulatorSettings
	c := &cobra.Command{
		Use:   "set",
		Short: "Configure the simulated machine",
		Long: `Configure the simulated machine, as SNP_CONFIG and the firmware's set-up do. What is not
named stays as it is; --product puts another machine in its place first.

--reported chooses the TCB that reports state, which is never above the committed one.
--vlek loads a cloud provider's key, which then signs in place of the chip's; an empty name
unloads it. --fault plays what is rare on real machines: expired-provider (its certificate
is past its year), revoked-intermediate (the root's revocation list names it), or none.

Guests that run see all but another product, under which they can not go on.`,
		Example: `  cofferdam simulator set --product Turin
  cofferdam simulator set --reported snp=0x17
  cofferdam simulator set --vlek example --fault expired-provider
  cofferdam simulator set --smt=false --mask-chip-id`,
		Args: console.Arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().NFlag() == 0 {
				return console.Usage(cmd, "nothing to set")
			}
			err := s.check(cmd)
			if err != nil {
				return err
			}
			return a.changeSimulator(func(m *simsp.Machine) error { return s.apply(cmd, m) })
		},
	}
	f := c.Flags()
	f.StringVar(&s.product, "product", "", "processor: "+strings.Join(simsp.Products(), ", "))
	f.StringVar(&s.reported, "reported", "", "parts of the TCB that is reported, such as snp=0x17")
	f.StringVar(&s.provider, "vlek", "", "load the key of a cloud provider of this name; an empty one unloads it")
	f.StringArrayVar(&s.faults, "fault", nil, "play a fault: expired-provider, revoked-intermediate, or none for no fault")
	f.Uint32Var(&s.version, "report-version", 0, "version of the reports: 2, 3 or 5")
	f.IntVar(&s.sockets, "sockets", 0, "number of processors: 1 or 2")
	f.BoolVar(&s.machine.SMT, "smt", false, "simultaneous multithreading")
	f.BoolVar(&s.machine.TSME, "tsme", false, "transparent memory encryption")
	f.BoolVar(&s.machine.RAPLDisabled, "rapl-disabled", false, "no readings of power")
	f.BoolVar(&s.machine.CiphertextHiding, "ciphertext-hiding", false, "ciphertext hiding")
	f.BoolVar(&s.machine.AliasChecked, "alias-checked", false, "memory was checked for aliases")
	f.BoolVar(&s.machine.MaskChipID, "mask-chip-id", false, "leave the chip's ID out of reports")
	f.BoolVar(&s.machine.MaskChipKey, "mask-chip-key", false, "take the chip's key out of use: without a provider's, reports are not signed")
	a.OutputFlag(c)
	return c
}

// check looks at what needs no machine.
func (s *simulatorSettings) check(cmd *cobra.Command) error {
	if cmd.Flags().Changed("product") && !slices.Contains(simsp.Products(), s.product) {
		return console.Usage(cmd, fmt.Sprintf("--product is %q; want %s", s.product, strings.Join(simsp.Products(), ", ")))
	}
	for _, f := range s.faults {
		if f != faultExpiredProvider && f != faultRevokedIntermediate && f != faultNone {
			return console.Usage(cmd, fmt.Sprintf("--fault is %q; want %s, %s or %s", f, faultExpiredProvider, faultRevokedIntermediate, faultNone))
		}
	}
	return nil
}

// apply changes what was named.
func (s *simulatorSettings) apply(cmd *cobra.Command, m *simsp.Machine) error {
	if s.product != "" {
		other, err := simsp.NewMachine(s.product)
		if err != nil {
			return err
		}
		*m = other
	}
	given := cmd.Flags().Changed
	for name, f := range map[string]struct{ to, from *bool }{
		"smt":               {&m.SMT, &s.machine.SMT},
		"tsme":              {&m.TSME, &s.machine.TSME},
		"rapl-disabled":     {&m.RAPLDisabled, &s.machine.RAPLDisabled},
		"ciphertext-hiding": {&m.CiphertextHiding, &s.machine.CiphertextHiding},
		"alias-checked":     {&m.AliasChecked, &s.machine.AliasChecked},
		"mask-chip-id":      {&m.MaskChipID, &s.machine.MaskChipID},
		"mask-chip-key":     {&m.MaskChipKey, &s.machine.MaskChipKey},
	} {
		if given(name) {
			*f.to = *f.from
		}
	}
	if given("report-version") {
		m.ReportVersion = s.version
	}
	if given("sockets") {
		m.Sockets = s.sockets
	}
	if given("vlek") {
		m.Provider = s.provider
		m.ExpiredProvider = m.ExpiredProvider && s.provider != ""
	}
	for _, f := range s.faults {
		m.ExpiredProvider = f == faultExpiredProvider || f != faultNone && m.ExpiredProvider
		m.RevokedIntermediate = f == faultRevokedIntermediate || f != faultNone && m.RevokedIntermediate
	}
	reported := m.Reported
	err := parseTCB(cmd, "--reported", s.reported, &reported)
	if err != nil {
		return err
	}
	return m.Report(reported)
}
