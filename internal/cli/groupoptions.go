// SPDX-License-Identifier: Apache-2.0

package cli

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
	"cofferdam.dev/internal/deploy"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

// sidecarFile is where the image of the release sidecar is looked for in the state directory.
const sidecarFile = "sidecar.tar"

// groupOptions is what a person asks `group up` and `group plan` for.
type groupOptions struct {
	read generateOptions // how the description is read

	name, which           string
	policyFile            string
	regenerate            bool
	imageMap              string
	sidecar               string
	withSKR               bool
	skrEnv                []string
	shares                []string
	fragments, trustLists []string
	record                string
	remove                bool
	plainHTTP             bool

	memory           string
	memoryMiB        int
	cpus             int
	scratch, volumes string
	scratchMiB       int
	volumesMiB       int
	hostIP           string
	reach            networkOptions
	machineOptions
	shareDirs map[string]string
	allowExec []string
	allowed   []allowedCommand
	wait      bool
}

func (o *groupOptions) flags(c *cobra.Command) {
	f := c.Flags()
	o.read.descriptionFlags(f)
	f.StringVar(&o.which, "group", "", "the group to take, if the description has several")
	f.StringVar(&o.name, "name", "", "name of the group (default: the description's, or one is made up)")
	f.StringVar(&o.policyFile, "policy", "", "launch with this policy instead of the description's or a generated one (a file)")
	f.BoolVar(&o.regenerate, "regenerate", false, "generate a policy, even if the description holds one")
	f.StringVar(&o.imageMap, "image-map", "", "file of images that take the place of others: YAML or JSON, reference to reference")
	f.StringVar(&o.sidecar, "sidecar-image", "", "image of the release sidecar (default: "+sidecarFile+" in the state directory)")
	f.BoolVar(&o.withSKR, "with-skr", false, "add a release sidecar, unless the group has one")
	f.StringArrayVar(&o.skrEnv, "skr-env", nil, "a variable of that sidecar, NAME=VALUE; it stands in the policy")
	f.StringArrayVar(&o.shares, "share", nil, "a directory of this machine for a file share: [ACCOUNT/]SHARE=DIR")
	f.StringArrayVar(&o.fragments, "fragment", nil, "load this signed policy fragment, which the policy must import (a file)")
	f.StringArrayVar(&o.trustLists, "trust-list", nil, "load this signed trust list before the fragments (a file)")
	f.BoolVar(&o.plainHTTP, "plain-http", false, "speak to the images' registries without TLS")
	f.BoolVar(&o.read.container.debug, "debug", false, "allow shells and debugging requests; not for production")
	o.allowFlag(c)
	f.StringVarP(&o.memory, "memory", "m", "", "memory of the machine (default: what the containers ask for, and the guest needs)")
	f.IntVar(&o.cpus, "cpus", 0, "virtual processors of the machine (default: what the containers ask for)")
	f.StringVar(&o.scratch, "scratch", "", "keep each container's writable layer on an encrypted disk with room for this much")
	f.StringVar(&o.volumes, "scratch-volumes", "", "keep empty directories on an encrypted disk with room for this much")
	o.reach.flags(c)
	f.StringVar(&o.hostIP, "publish-address", deploy.DefaultHostIP, "where published ports listen, unless the description says an address")
	o.machineFlags(c)
}

// check refuses what the flags can not mean, before anything is opened.
func (o *groupOptions) check(cmd *cobra.Command) error {
	run := runOptions{
		machineOptions: o.machineOptions, cpus: max(o.cpus, 1), reach: o.reach, fragments: o.fragments, record: o.record, policyFile: "any",
		scratch: o.scratch, detach: true,
	}
	err := run.check(cmd, nil)
	if err != nil {
		return err
	}
	o.record, o.machineOptions, o.scratchMiB = run.record, run.machineOptions, run.scratchMiB
	err = o.checkMachine(cmd)
	if err != nil {
		return err
	}
	switch {
	case o.policyFile != "" && o.regenerate:
		return usage(cmd, "--policy and --regenerate exclude each other")
	case o.policyFile != "" && len(o.allowExec) > 0:
		return usage(cmd, "--policy and --allow-exec exclude each other: the policy says what is allowed")
	}
	if o.allowed, err = readAllowed(o.allowExec); err != nil {
		return usage(cmd, "--allow-exec "+err.Error())
	}
	for _, text := range o.skrEnv {
		if name, _, ok := strings.Cut(text, "="); !ok || name == "" || !o.withSKR {
			return usage(cmd, fmt.Sprintf("--skr-env %q: want NAME=VALUE, and --with-skr", text))
		}
	}
	o.shareDirs = map[string]string{}
	for _, text := range o.shares {
		name, dir, ok := strings.Cut(text, "=")
		if !ok || name == "" || dir == "" {
			return usage(cmd, fmt.Sprintf("--share %q is not [ACCOUNT/]SHARE=DIR", text))
		}
		o.shareDirs[name] = dir
	}
	return nil
}

// checkMachine refuses what the flags about the machine can not mean.
func (o *groupOptions) checkMachine(cmd *cobra.Command) error {
	var err error
	if o.memory != "" {
		o.memoryMiB, err = spec.ParseMemory(o.memory)
		if err != nil {
			return usage(cmd, "--memory: "+err.Error())
		}
		if o.memoryMiB < spec.MinMemoryMiB {
			return usage(cmd, fmt.Sprintf("--memory %s is not enough: a guest needs %dm to come up", o.memory, spec.MinMemoryMiB))
		}
	}
	if o.volumes != "" {
		o.volumesMiB, err = spec.ParseMemory(o.volumes)
		if err == nil {
			o.volumesMiB, err = assemble.ScratchDisk(o.volumesMiB)
		}
		if err != nil {
			return usage(cmd, "--scratch-volumes: "+err.Error())
		}
	}
	if o.name != "" {
		err = group.ValidateName(o.name)
		if err != nil {
			return usage(cmd, "--name: "+err.Error())
		}
	}
	_, err = netip.ParseAddr(o.hostIP)
	if err != nil {
		return usage(cmd, fmt.Sprintf("--publish-address %q is no address", o.hostIP))
	}
	if o.cpus < 0 {
		return usage(cmd, fmt.Sprintf("--cpus is %d; want 1 to %d", o.cpus, maxCPUs))
	}
	return nil
}

// machine is what the flags say about the machine.
func (o *groupOptions) machine() deploy.Machine {
	return deploy.Machine{
		Accelerator: o.accel, TEE: o.tee, Firmware: o.firmware, Network: o.reach.mode, HostIP: o.hostIP, CPUs: o.cpus,
		MemoryMiB: o.memoryMiB, ScratchMiB: o.volumesMiB, Name: o.name,
	}
}

// stand are the images that take the place of others.
func (o *groupOptions) stand(home string) (deploy.Substitutes, error) {
	s := deploy.Substitutes{Sidecar: o.sidecar, WithSKR: o.withSKR}
	for _, text := range o.skrEnv {
		name, value, _ := strings.Cut(text, "=")
		s.SidecarEnv = append(s.SidecarEnv, spec.EnvVar{Name: name, Value: value})
	}
	path := filepath.Join(home, sidecarFile)
	_, err := os.Stat(path)
	if err == nil && s.Sidecar == "" {
		s.Sidecar = "oci-archive:" + path
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("looking for the sidecar's image: %w", err)
	}
	if o.imageMap == "" {
		return s, nil
	}
	data, err := readLimited(o.imageMap, nil, doc.MaxBytes)
	if err != nil {
		return s, fmt.Errorf("reading the image map: %w", err)
	}
	s.Map, err = deploy.ReadMap(data)
	if err != nil {
		return s, fmt.Errorf("reading the image map %s: %w", o.imageMap, err)
	}
	return s, nil
}

// automatic says that the accelerator is chosen here.
func (o *groupOptions) automatic() bool { return o.accel == qemu.Auto }
