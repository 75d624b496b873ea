// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/assemble"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/imagecmd"
	"cofferdam.dev/internal/cli/policycmd"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/spec"
)

// defaultMemory is that of a group unless it is asked for.
const defaultMemory = "512m"

// defaultHostIP is where forwarded ports listen unless an address is given: only this machine reaches them.
const defaultHostIP = "127.0.0.1"

// runOptions is what a person asks `run` for.
type runOptions struct {
	policycmd.ContainerFlags

	name        string
	detach      bool
	interactive bool
	remove      bool
	ports       []string
	memory      string
	cpus        int
	policyFile  string
	fragments   []string
	trustLists  []string
	record      string
	scratch     string
	scratchMiB  int
	reach       networkOptions
	stopTimeout time.Duration
	machineOptions
}

// launchFlags are the other flags of `run`.
func (o *runOptions) launchFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.name, "name", "", "name of the group (default: one is made up)")
	f.BoolVarP(&o.detach, "detach", "d", false, "leave the group running and print its name")
	f.BoolVarP(&o.interactive, "interactive", "i", false, "pass standard input on")
	f.BoolVar(&o.remove, "rm", false, "remove the group as soon as it has ended")
	f.StringArrayVarP(&o.ports, "publish", "p", nil, "forward a port: [IP:]HOST:GUEST[/udp]; IP is "+defaultHostIP+" unless given")
	f.StringVarP(&o.memory, "memory", "m", defaultMemory, "memory of the machine")
	f.IntVar(&o.cpus, "cpus", imagecmd.DefaultCPUs, "virtual processors of the machine; part of its measurement")
	f.StringVar(&o.policyFile, "policy", "", "run under this policy instead of a generated one (a file)")
	f.StringArrayVar(&o.fragments, "fragment", nil, "load this signed policy fragment, which the policy must import (a file)")
	f.StringArrayVar(&o.trustLists, "trust-list", nil, "load this signed trust list before the fragments, which the policy must accept (a file)")
	f.StringVar(&o.record, "record", "", "record what the guest is asked, with its decisions, in this new file; it holds environment values")
	f.StringVar(&o.scratch, "scratch", "", "keep the container's writable layer on an encrypted disk with room for this much, at most 128g")
	o.reach.flags(c)
	f.DurationVar(&o.stopTimeout, "stop-timeout", group.DefaultStopTimeout, "how long the container may take to stop")
	o.MachineFlags(c)
}

// group reads the flags. What can not be meant is refused before anything is opened.
func (o *runOptions) group(cmd *cobra.Command, a *App) (*spec.Group, error) {
	err := o.check(cmd, a)
	if err != nil {
		return nil, err
	}
	g, err := o.Group(cmd, a.policy, spec.RunFlags{Name: o.name, Ports: o.ports, Memory: o.memory, CPUs: o.cpus})
	if err != nil {
		return nil, err
	}
	for i := range g.Ports {
		if g.Ports[i].HostIP == "" {
			g.Ports[i].HostIP = defaultHostIP
		}
	}
	return g, nil
}

// check refuses what the flags of `run` can not mean together.
func (o *runOptions) check(cmd *cobra.Command, a *App) error {
	err := o.machineOptions.check(cmd)
	if err != nil {
		return err
	}
	switch {
	case o.cpus < 1 || o.cpus > imagecmd.MaxCPUs:
		return console.Usage(cmd, fmt.Sprintf("--cpus is %d; want 1 to %d", o.cpus, imagecmd.MaxCPUs))
	case o.detach && o.interactive:
		return console.Usage(cmd, "-d and -i exclude each other: nobody would be there to type")
	case group.Neighbourly(o.reach.Mode) && len(o.ports) > 0:
		return console.Usage(cmd, "-p and --network "+o.reach.Mode+" exclude each other: the container is reached at its --address")
	case o.reach.Mode == group.NetworkNone && len(o.ports) > 0:
		return console.Usage(cmd, "-p and --network none exclude each other; --network ingress has forwarded ports and nothing else")
	case len(o.Egress) > 0 && o.policyFile != "":
		return console.Usage(cmd, "--egress and --policy exclude each other: the limit stands in the policy, or there is none")
	case len(o.fragments) > 0 && o.policyFile == "":
		return console.Usage(cmd, "--fragment needs --policy: a generated policy imports no fragment")
	case len(o.trustLists) > 0 && o.policyFile == "":
		return console.Usage(cmd, "--trust-list needs --policy: a generated policy accepts no trust list")
	case o.stopTimeout < 0:
		return console.Usage(cmd, fmt.Sprintf("--stop-timeout is %s", o.stopTimeout))
	}
	err = o.reach.check(cmd)
	if err != nil {
		return err
	}
	if o.scratch != "" {
		o.scratchMiB, err = spec.ParseMemory(o.scratch)
		if err == nil {
			o.scratchMiB, err = assemble.ScratchDisk(o.scratchMiB)
		}
		if err != nil {
			return console.Usage(cmd, "--scratch: "+err.Error())
		}
	}
	if cmd.Flags().Changed("record") {
		err = o.checkRecord()
		if err != nil {
			return console.Usage(cmd, "--record: "+err.Error())
		}
	}
	if o.Terminal && o.interactive && !o.detach {
		return a.needTerminal()
	}
	return nil
}

// checkRecord settles the path of the recording, which the supervisor makes from another directory.
func (o *runOptions) checkRecord() error {
	if o.record == "" {
		return errors.New("it names no file")
	}
	path, err := filepath.Abs(o.record)
	if err != nil {
		return err
	}
	_, err = os.Lstat(path)
	if err == nil {
		return fmt.Errorf("%s exists; name a new file", path)
	}
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no directory", filepath.Dir(path))
	}
	o.record = path
	return nil
}
