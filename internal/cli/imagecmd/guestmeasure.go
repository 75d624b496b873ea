// SPDX-License-Identifier: Apache-2.0

package imagecmd

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/guestimage"
	"cofferdam.dev/internal/measure"
	"cofferdam.dev/internal/sandbox/qemu"
)

// measureAnswer is the document behind `guest measure -o json`.
type measureAnswer struct {
	Schema string `json:"schema"`
	Image  string `json:"image"`
	*guestimage.Measurement
}

func (a *App) guestMeasureCommand() *cobra.Command {
	o := guestimage.MeasureOptions{}
	var model, accel, vmm, features string
	var explain bool
	c := &cobra.Command{
		Use:   "measure",
		Short: "Compute the launch measurement of the current guest image",
		Long: `Compute what the processor will report as launch measurement when the current guest image
is booted: the value that a relying party pins. It depends on the number of processors, and
for hardware on the firmware and the processor's model. --explain and -o json list
everything that it depends on, and what the evidence says elsewhere.`,
		Example: `  cofferdam guest measure
  cofferdam guest measure --cpus 2 --explain
  cofferdam guest measure --tee snp --firmware OVMF.amdsev.fd --cpu-model EPYC-Genoa -o json
  cofferdam guest measure --tee snp --firmware OVMF.amdsev.fd --guest-features 0x21`,
		Args: console.Arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := CheckTEE(cmd, o.TEE)
			if err != nil {
				return err
			}
			if o.VCPUs < 1 || o.VCPUs > MaxCPUs {
				return console.Usage(cmd, fmt.Sprintf("--cpus is %d; want 1 to %d", o.VCPUs, MaxCPUs))
			}
			if accel != qemu.TCG && accel != qemu.KVM {
				return console.Usage(cmd, fmt.Sprintf("--accel is %q; want tcg or kvm", accel))
			}
			o.Packed = o.TEE == guestimage.Simulated && accel == qemu.KVM
			if o.TEE == guestimage.SNP {
				err = snpInputs(cmd, &o, model, vmm, features)
				if err != nil {
					return err
				}
			}
			if o.TEE != guestimage.Simulated && o.Firmware == "" {
				return console.Usage(cmd, fmt.Sprintf("--tee %s wants --firmware: its measurement begins there", o.TEE))
			}
			img, err := a.Guest()
			if err != nil {
				return err
			}
			m, err := img.Measure(o)
			if err != nil {
				return err
			}
			d := img.Digest()
			v := measureAnswer{Schema: "cofferdam.dev/guest-measurement/v1", Image: fmt.Sprintf("%x", d), Measurement: m}
			return a.Answer(v, func(w io.Writer) error { return showMeasurement(w, m, explain) })
		},
	}
	f := c.Flags()
	f.StringVar(&o.TEE, "tee", guestimage.Simulated, "trusted execution environment: simulated, snp or tdx")
	f.IntVar(&o.VCPUs, "cpus", DefaultCPUs, "number of virtual processors")
	f.StringVar(&accel, "accel", qemu.TCG, "accelerator of a simulated launch, which chooses the kernel's form: tcg or kvm")
	f.StringVar(&o.Firmware, "firmware", "", "OVMF image, for snp and tdx")
	f.StringVar(&model, "cpu-model", qemu.DefaultSNPCPU, "QEMU's processor model, or a signature in hexadecimal (CPUID leaf 1 EAX), for snp")
	f.StringVar(&vmm, "vmm", string(measure.QEMU), "virtual machine monitor: qemu, ec2 or gce, for snp")
	f.StringVar(&features, "guest-features", "0x1", "SEV_FEATURES, for snp; some hosts launch with 0x21 (debug swap)")
	f.BoolVar(&explain, "explain", false, "list everything that the measurement depends on")
	a.OutputFlag(c)
	return c
}

// snpInputs reads what changes the digest of an SNP launch besides the files.
func snpInputs(cmd *cobra.Command, o *guestimage.MeasureOptions, model, vmm, features string) error {
	var known bool
	o.CPUSignature, known = measure.CPUSignature(model)
	if digits, hexadecimal := strings.CutPrefix(model, "0x"); hexadecimal {
		n, err := strconv.ParseUint(digits, 16, 32)
		o.CPUSignature, known = uint32(n), err == nil && n != 0
	}
	if !known {
		return console.Usage(cmd, fmt.Sprintf("--cpu-model is %q; want %s, with a version such as -v2 or without, or a signature such as 0x800f12",
			model, strings.Join(measure.CPUModels(), ", ")))
	}
	o.VMM = measure.VMM(vmm)
	if !slices.Contains(measure.VMMs(), o.VMM) {
		return console.Usage(cmd, fmt.Sprintf("--vmm is %q; want qemu, ec2 or gce", vmm))
	}
	n, err := strconv.ParseUint(features, 0, 64)
	if err != nil || n&measure.FeatureSNP == 0 {
		return console.Usage(cmd, fmt.Sprintf("--guest-features is %q; want a number with bit 0, such as 0x1", features))
	}
	o.GuestFeatures = n
	return nil
}

func showMeasurement(w io.Writer, m *guestimage.Measurement, explain bool) error {
	if !explain {
		_, err := fmt.Fprintln(w, m.Digest)
		return err
	}
	pairs := [][2]string{{m.Kind, m.Digest}}
	for _, i := range m.Inputs {
		pairs = append(pairs, [2]string{"  " + i.Name, i.Value + "  (" + i.Reason + ")"})
	}
	for _, i := range m.Elsewhere {
		pairs = append(pairs, [2]string{"  not in it: " + i.Name, i.Value + "  (" + i.Reason + ")"})
	}
	return console.Facts(w, pairs...)
}
