// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/imagecmd"
	"cofferdam.dev/internal/sandbox/qemu"
)

// machineOptions say what kind of machine a group is launched in.
type machineOptions struct {
	tee, accel string
	firmware   string
}

func (o *machineOptions) MachineFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.tee, "tee", "auto", "trusted execution environment: auto, simulated, snp or tdx")
	f.StringVar(&o.accel, "accel", "auto", "accelerator: auto, kvm or tcg")
	f.StringVar(&o.firmware, "firmware", "", "OVMF image to launch with, for snp and tdx")
	fixedValues(c, "tee", "auto", "simulated", "snp", "tdx")
	fixedValues(c, "accel", "auto", "kvm", "tcg")
}

// fixedValues completes a flag, which must exist, with these values.
func fixedValues(c *cobra.Command, name string, values ...string) {
	_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // fails for no flag alone
}

// check refuses what a machine can not be.
func (o *machineOptions) check(cmd *cobra.Command) error {
	err := imagecmd.CheckTEE(cmd, o.tee, "auto")
	if err != nil {
		return err
	}
	if o.accel != qemu.Auto && o.accel != qemu.KVM && o.accel != qemu.TCG {
		return console.Usage(cmd, fmt.Sprintf("--accel is %q; want auto, kvm or tcg", o.accel))
	}
	if o.firmware == "" {
		return nil
	}
	err = o.checkFirmware()
	if err != nil {
		return console.Usage(cmd, "--firmware: "+err.Error())
	}
	return nil
}

// errFirmwareUnused says that --tee auto comes out as the one TEE that has no use for firmware.
var errFirmwareUnused = errors.New("--tee auto is simulated here, and a simulated TEE boots without firmware; it is for snp and tdx")

// checkFirmware settles the firmware's path, which the supervisor reads from another directory.
func (o *machineOptions) checkFirmware() error {
	if o.tee == qemu.Simulated {
		return errors.New("a simulated TEE boots without firmware")
	}
	path, err := filepath.Abs(o.firmware)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	if host := qemu.DetectHost("/"); o.tee == qemu.Auto && (o.accel == qemu.TCG || !host.SNP.Present && !host.TDX.Present) {
		return errFirmwareUnused
	}
	o.firmware = path
	return nil
}
