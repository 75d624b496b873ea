// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/assemble"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/imagecmd"
	"cofferdam.dev/internal/cli/policycmd"
	"cofferdam.dev/internal/deploy"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

// SidecarFile is where the image of the release sidecar is looked for in the state directory.
const SidecarFile = "sidecar.tar"

// GroupOptions is what a person asks `group up` and `group plan` for.
type GroupOptions struct {
	read policycmd.GenerateOptions // how the description is read

	name, which           string
	policyFile            string
	regenerate            bool
	ImageMap              string
	Sidecar               string
	withSKR               bool
	skrEnv                []string
	Shares                []string
	fragments, trustLists []string
	record                string
	remove                bool
	PlainHTTP             bool

	memory           string
	memoryMiB        int
	cpus             int
	Scratch, Volumes string
	ScratchMiB       int
	volumesMiB       int
	HostIP           string
	Reach            networkOptions
	machineOptions
	ShareDirs map[string]string
	allowExec []string
	allowed   []allowedCommand
	wait      bool
}

func (o *GroupOptions) flags(c *cobra.Command) {
	f := c.Flags()
	o.read.DescriptionFlags(f)
	f.StringVar(&o.which, "group", "", "the group to take, if the description has several")
	f.StringVar(&o.name, "name", "", "name of the group (default: the description's, or one is made up)")
	f.StringVar(&o.policyFile, "policy", "", "launch with this policy instead of the description's or a generated one (a file)")
	f.BoolVar(&o.regenerate, "regenerate", false, "generate a policy, even if the description holds one")
	f.StringVar(&o.ImageMap, "image-map", "", "file of images that take the place of others: YAML or JSON, reference to reference")
	f.StringVar(&o.Sidecar, "sidecar-image", "", "image of the release sidecar (default: "+SidecarFile+" in the state directory)")
	f.BoolVar(&o.withSKR, "with-skr", false, "add a release sidecar, unless the group has one")
	f.StringArrayVar(&o.skrEnv, "skr-env", nil, "a variable of that sidecar, NAME=VALUE; it stands in the policy")
	f.StringArrayVar(&o.Shares, "share", nil, "a directory of this machine for a file share: [ACCOUNT/]SHARE=DIR")
	f.StringArrayVar(&o.fragments, "fragment", nil, "load this signed policy fragment, which the policy must import (a file)")
	f.StringArrayVar(&o.trustLists, "trust-list", nil, "load this signed trust list before the fragments (a file)")
	f.BoolVar(&o.PlainHTTP, "plain-http", false, "speak to the images' registries without TLS")
	f.BoolVar(&o.read.Container.Debug, "debug", false, "allow shells and debugging requests; not for production")
	o.allowFlag(c)
	f.StringVarP(&o.memory, "memory", "m", "", "memory of the machine (default: what the containers ask for, and the guest needs)")
	f.IntVar(&o.cpus, "cpus", 0, "virtual processors of the machine (default: what the containers ask for)")
	f.StringVar(&o.Scratch, "scratch", "", "keep each container's writable layer on an encrypted disk with room for this much")
	f.StringVar(&o.Volumes, "scratch-volumes", "", "keep empty directories on an encrypted disk with room for this much")
	o.Reach.flags(c)
	f.StringVar(&o.HostIP, "publish-address", deploy.DefaultHostIP, "where published ports listen, unless the description says an address")
	o.MachineFlags(c)
}

// ServiceFlags are those that say how the groups of a service are launched.
func (o *GroupOptions) ServiceFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.ImageMap, "image-map", "", "file of images that take the place of others: YAML or JSON, reference to reference")
	f.StringVar(&o.Sidecar, "sidecar-image", "", "image of the release sidecar (default: "+SidecarFile+" in the state directory)")
	f.StringArrayVar(&o.Shares, "share", nil, "a directory of this machine for a file share: [ACCOUNT/]SHARE=DIR")
	f.BoolVar(&o.PlainHTTP, "plain-http", false, "speak to the images' registries without TLS")
	f.StringVar(&o.Scratch, "scratch", "", "keep each container's writable layer on an encrypted disk with room for this much")
	f.StringVar(&o.Volumes, "scratch-volumes", "", "keep empty directories on an encrypted disk with room for this much")
	f.StringVar(&o.Reach.Mode, "network", group.NetworkNAT, "nat, ingress (only published ports) or none")
	f.StringVar(&o.HostIP, "publish-address", deploy.DefaultHostIP, "where the groups' ports listen")
	o.MachineFlags(c)
}

// Check refuses what the flags can not mean, before anything is opened.
func (o *GroupOptions) Check(cmd *cobra.Command) error {
	run := runOptions{
		machineOptions: o.machineOptions, cpus: max(o.cpus, 1), reach: o.Reach, fragments: o.fragments, record: o.record, policyFile: "any",
		scratch: o.Scratch, detach: true,
	}
	err := run.check(cmd, nil)
	if err != nil {
		return err
	}
	o.record, o.machineOptions, o.ScratchMiB = run.record, run.machineOptions, run.scratchMiB
	err = o.checkMachine(cmd)
	if err != nil {
		return err
	}
	switch {
	case o.policyFile != "" && o.regenerate:
		return console.Usage(cmd, "--policy and --regenerate exclude each other")
	case o.policyFile != "" && len(o.allowExec) > 0:
		return console.Usage(cmd, "--policy and --allow-exec exclude each other: the policy says what is allowed")
	}
	if o.allowed, err = readAllowed(o.allowExec); err != nil {
		return console.Usage(cmd, "--allow-exec "+err.Error())
	}
	for _, text := range o.skrEnv {
		if name, _, ok := strings.Cut(text, "="); !ok || name == "" || !o.withSKR {
			return console.Usage(cmd, fmt.Sprintf("--skr-env %q: want NAME=VALUE, and --with-skr", text))
		}
	}
	o.ShareDirs = map[string]string{}
	for _, text := range o.Shares {
		name, dir, ok := strings.Cut(text, "=")
		if !ok || name == "" || dir == "" {
			return console.Usage(cmd, fmt.Sprintf("--share %q is not [ACCOUNT/]SHARE=DIR", text))
		}
		o.ShareDirs[name] = dir
	}
	return nil
}

// checkMachine refuses what the flags about the machine can not mean.
func (o *GroupOptions) checkMachine(cmd *cobra.Command) error {
	var err error
	if o.memory != "" {
		o.memoryMiB, err = spec.ParseMemory(o.memory)
		if err != nil {
			return console.Usage(cmd, "--memory: "+err.Error())
		}
		if o.memoryMiB < spec.MinMemoryMiB {
			return console.Usage(cmd, fmt.Sprintf("--memory %s is not enough: a guest needs %dm to come up", o.memory, spec.MinMemoryMiB))
		}
	}
	if o.Volumes != "" {
		o.volumesMiB, err = spec.ParseMemory(o.Volumes)
		if err == nil {
			o.volumesMiB, err = assemble.ScratchDisk(o.volumesMiB)
		}
		if err != nil {
			return console.Usage(cmd, "--scratch-volumes: "+err.Error())
		}
	}
	if o.name != "" {
		err = group.ValidateName(o.name)
		if err != nil {
			return console.Usage(cmd, "--name: "+err.Error())
		}
	}
	_, err = netip.ParseAddr(o.HostIP)
	if err != nil {
		return console.Usage(cmd, fmt.Sprintf("--publish-address %q is no address", o.HostIP))
	}
	if o.cpus < 0 {
		return console.Usage(cmd, fmt.Sprintf("--cpus is %d; want 1 to %d", o.cpus, imagecmd.MaxCPUs))
	}
	return nil
}

// Machine is what the flags say about the machine.
func (o *GroupOptions) Machine() deploy.Machine {
	return deploy.Machine{
		Accelerator: o.accel, TEE: o.tee, Firmware: o.firmware, Network: o.Reach.Mode, HostIP: o.HostIP, CPUs: o.cpus,
		MemoryMiB: o.memoryMiB, ScratchMiB: o.volumesMiB, Name: o.name,
	}
}

// Stand are the images that take the place of others.
func (o *GroupOptions) Stand(home string) (deploy.Substitutes, error) {
	s := deploy.Substitutes{Sidecar: o.Sidecar, WithSKR: o.withSKR}
	for _, text := range o.skrEnv {
		name, value, _ := strings.Cut(text, "=")
		s.SidecarEnv = append(s.SidecarEnv, spec.EnvVar{Name: name, Value: value})
	}
	path := filepath.Join(home, SidecarFile)
	_, err := os.Stat(path)
	if err == nil && s.Sidecar == "" {
		s.Sidecar = "oci-archive:" + path
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("looking for the sidecar's image: %w", err)
	}
	if o.ImageMap == "" {
		return s, nil
	}
	data, err := console.ReadLimited(o.ImageMap, nil, doc.MaxBytes)
	if err != nil {
		return s, fmt.Errorf("reading the image map: %w", err)
	}
	s.Map, err = deploy.ReadMap(data)
	if err != nil {
		return s, fmt.Errorf("reading the image map %s: %w", o.ImageMap, err)
	}
	return s, nil
}

// automatic says that the accelerator is chosen here.
func (o *GroupOptions) automatic() bool { return o.accel == qemu.Auto }
