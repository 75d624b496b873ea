// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/simsp"
)

// simulatorAnswer is the document behind `simulator … -o json`.
type simulatorAnswer struct {
	Schema    string        `json:"schema"`
	Simulated bool          `json:"simulated"` // always true: nothing of it is hardware
	Machine   simsp.Machine `json:"machine"`
}

// SimulatorCommand returns `simulator` with all that is below it.
func (a *App) SimulatorCommand() *cobra.Command {
	return console.Noun("simulator", "Look at the simulated secure processor, and do what a host does to a real one",
		a.simulatorShowCommand(), a.simulatorSetCommand(), a.simulatorUpdateCommand(), a.simulatorCommitCommand(),
		a.simulatorResetCommand(), a.simulatorKDSCommand())
}

func (a *App) simulatorDir() string { return filepath.Join(a.Home, "simsp") }

// changeSimulator changes the machine and shows what it is then.
func (a *App) changeSimulator(change func(*simsp.Machine) error) error {
	m, err := simsp.ChangeMachine(a.simulatorDir(), change)
	if err != nil {
		return err
	}
	return a.showSimulator(&m)
}

func (a *App) showSimulator(m *simsp.Machine) error {
	answer := simulatorAnswer{Schema: "cofferdam.dev/simulator/v1", Simulated: true, Machine: *m}
	return a.Answer(answer, func(w io.Writer) error {
		key := "the chip's own (VCEK)"
		switch {
		case m.Provider != "":
			key = fmt.Sprintf("that of the provider %s (VLEK)", m.Provider)
		case m.MaskChipKey:
			key = "none: reports are not signed"
		}
		return console.Facts(w, [][2]string{
			{"processor", m.Product + ", SIMULATED: its reports say nothing about hardware"},
			{"current TCB", m.Current.String()},
			{"committed TCB", m.Committed.String()},
			{"reported TCB", m.Reported.String()},
			{"firmware", fmt.Sprintf("%s, committed %s", m.CurrentVersion, m.CommittedVersion)},
			{"reports", fmt.Sprintf("version %d", m.ReportVersion)},
			{"signing key", key},
			{"sockets", strconv.Itoa(m.Sockets)},
			{"on", flags(m)},
		}...)
	})
}

// flags lists what is switched on.
func flags(m *simsp.Machine) string {
	var on []string
	for _, f := range []struct {
		set  bool
		name string
	}{
		{m.SMT, "multithreading"}, {m.TSME, "transparent encryption"}, {m.RAPLDisabled, "no power readings"},
		{m.CiphertextHiding, "ciphertext hiding"}, {m.AliasChecked, "alias check"}, {m.MaskChipID, "masked chip ID"},
		{m.MaskChipKey, "masked chip key"}, {m.ExpiredProvider, "FAULT: expired provider's key"},
		{m.RevokedIntermediate, "FAULT: revoked intermediate"},
	} {
		if f.set {
			on = append(on, f.name)
		}
	}
	if len(on) == 0 {
		return "nothing"
	}
	return strings.Join(on, ", ")
}

func (a *App) simulatorShowCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "show",
		Short: "Show the simulated machine",
		Long: `Show the simulated machine of this installation: the processor, its firmware, and what its
host has set. Groups with the TEE "simulated" run on it.`,
		Example: `  cofferdam simulator show
  cofferdam simulator show -o json`,
		Args: console.Arguments(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			m, err := simsp.LoadMachine(a.simulatorDir())
			if err != nil {
				return err
			}
			return a.showSimulator(&m)
		},
	}
	a.OutputFlag(c)
	return c
}

func (a *App) simulatorCommitCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "commit",
		Short: "Commit the running firmware, so that it can not go back",
		Long: `Commit the firmware that runs, as SNP_COMMIT does: it can not go back behind this version,
and its TCB is the one that is reported.`,
		Example: `  cofferdam simulator commit`,
		Args:    console.Arguments(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			return a.changeSimulator(func(m *simsp.Machine) error { return m.Commit() })
		},
	}
	a.OutputFlag(c)
	return c
}

func (a *App) simulatorResetCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "reset",
		Short: "Put a machine that nobody changed in place of this one",
		Long: `Put a machine that nobody changed in place of this one. Keys and roots stay: it is the same
chip, which real hardware can not do after a commit.`,
		Example: `  cofferdam simulator reset`,
		Args:    console.Arguments(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			return a.changeSimulator(func(m *simsp.Machine) error { *m = simsp.DefaultMachine(); return nil })
		},
	}
	a.OutputFlag(c)
	return c
}

func (a *App) simulatorUpdateCommand() *cobra.Command {
	var tcb, version string
	c := &cobra.Command{
		Use:   "update",
		Short: "Update the firmware, or roll it back",
		Long: `Put other firmware in place of the running one, as DOWNLOAD_FIRMWARE_EX does: newer or
older, but not below what is committed. It is provisional until it is committed, and guests
that run see it in their next report.

--tcb names the parts that change: fmc (Turin), bootloader, tee, snp, microcode.`,
		Example: `  cofferdam simulator update --tcb snp=0x19,microcode=0xdc --version 1.56.1
  cofferdam simulator update --tcb snp=0x18 --version 1.55.29`,
		Args: console.Arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if tcb == "" && version == "" {
				return console.Usage(cmd, "nothing to update; give --tcb, --version, or both")
			}
			return a.changeSimulator(func(m *simsp.Machine) error {
				to, v := m.Current, m.CurrentVersion
				err := parseTCB(cmd, "--tcb", tcb, &to)
				if err != nil {
					return err
				}
				if version != "" {
					_, err = fmt.Sscanf(version, "%d.%d.%d", &v.Major, &v.Minor, &v.Build)
					if err != nil || v.String() != version {
						return console.Usage(cmd, fmt.Sprintf("--version is %q; want MAJOR.MINOR.BUILD", version))
					}
				}
				return m.Update(to, v)
			})
		},
	}
	c.Flags().StringVar(&tcb, "tcb", "", "parts of the TCB, such as snp=0x19,microcode=0xdc")
	c.Flags().StringVar(&version, "version", "", "version of the firmware: MAJOR.MINOR.BUILD")
	a.OutputFlag(c)
	return c
}

// parseTCB changes the named parts of a TCB.
func parseTCB(cmd *cobra.Command, flag, text string, tcb *snp.TCBParts) error {
	if text == "" {
		return nil
	}
	parts := map[string]*uint8{
		"fmc": &tcb.FMC, "bootloader": &tcb.Bootloader, "tee": &tcb.TEE, "snp": &tcb.SNP, "microcode": &tcb.Microcode,
	}
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(part, "=")
		n, err := strconv.ParseUint(value, 0, 8)
		if err != nil || parts[name] == nil {
			return console.Usage(cmd, fmt.Sprintf("%s has %q; want fmc, bootloader, tee, snp or microcode, each = a number from 0 to 255", flag, part))
		}
		*parts[name] = uint8(n)
	}
	return nil
}
