// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/guestimage"
	"cofferdam.dev/internal/sandbox/qemu"
)

// measureAnswer is the document behind `guest measure -o json`.
type measureAnswer struct {
	Schema string `json:"schema"`
	Image  string `json:"image"`
	*guestimage.Measurement
}

func (a *app) guestMeasureCommand() *cobra.Command {
	o := guestimage.MeasureOptions{}
	var model, accel string
	var explain bool
	c := &cobra.Command{
		Use:   "measure",
		Short: "Compute the launch measurement of the current guest image",
		Long: `Compute what the processor will report as launch measurement when the current guest image
is booted: the value that a relying party pins. It depends on the number of processors, and
for hardware on the firmware and the processor's model; --explain lists all inputs.`,
		Example: `  cofferdam guest measure
  cofferdam guest measure --cpus 2 --explain
  cofferdam guest measure --tee snp --firmware OVMF.amdsev.fd --cpu-model EPYC-v4`,
		Args: arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := checkTEE(cmd, o.TEE)
			if err != nil {
				return err
			}
			if o.VCPUs < 1 || o.VCPUs > maxCPUs {
				return usage(cmd, fmt.Sprintf("--cpus is %d; want 1 to %d", o.VCPUs, maxCPUs))
			}
			if accel != qemu.TCG && accel != qemu.KVM {
				return usage(cmd, fmt.Sprintf("--accel is %q; want tcg or kvm", accel))
			}
			o.Packed = o.TEE == guestimage.Simulated && accel == qemu.KVM
			if o.TEE == guestimage.SNP {
				var known bool
				o.CPUSignature, known = guestimage.CPUSignature(model)
				if !known {
					return usage(cmd, fmt.Sprintf("--cpu-model is %q, which is not known", model))
				}
			}
			if o.TEE != guestimage.Simulated && o.Firmware == "" {
				return usage(cmd, fmt.Sprintf("--tee %s wants --firmware: its measurement begins there", o.TEE))
			}
			img, err := a.guest()
			if err != nil {
				return err
			}
			m, err := img.Measure(o)
			if err != nil {
				return err
			}
			d := img.Digest()
			v := measureAnswer{Schema: "cofferdam.dev/guest-measurement/v1", Image: fmt.Sprintf("%x", d), Measurement: m}
			return a.answer(v, func(w io.Writer) error { return showMeasurement(w, m, explain) })
		},
	}
	f := c.Flags()
	f.StringVar(&o.TEE, "tee", guestimage.Simulated, "trusted execution environment: simulated, snp or tdx")
	f.IntVar(&o.VCPUs, "cpus", defaultCPUs, "number of virtual processors")
	f.StringVar(&accel, "accel", qemu.TCG, "accelerator of a simulated launch, which chooses the kernel's form: tcg or kvm")
	f.StringVar(&o.Firmware, "firmware", "", "OVMF image, for snp and tdx")
	f.StringVar(&model, "cpu-model", qemu.DefaultSNPCPU, "QEMU's processor model, for snp")
	f.BoolVar(&explain, "explain", false, "list everything that the measurement depends on")
	a.outputFlag(c)
	return c
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
	return facts(w, pairs...)
}
