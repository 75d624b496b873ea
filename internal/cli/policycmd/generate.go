// SPDX-License-Identifier: Apache-2.0

package policycmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/imagecmd"
	"cofferdam.dev/internal/policygen"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
)

// GenerateOptions is what a person asks `policy generate` for.
type GenerateOptions struct {
	Container ContainerFlags
	images    imageSource

	// How a description is read.
	parameterFiles []string
	parameters     []string
	wildcards      bool
	resourceGroup  string
	location       string
	subscription   string

	// What the policy says.
	platform       string
	api, era       string
	svn            string
	exclude        bool
	include        bool
	fragmentsFile  string
	trustListsFile string
	omitID         bool
	enableStdio    bool
	hostNetwork    bool

	// What is done with it.
	form     string
	hash     bool
	file     string
	write    bool
	yes      bool
	diff     bool
	sidecars bool

	// from are the descriptions or images, as divide told them from flags and command.
	from   []string
	dashes bool // the command stood behind --

	asConfcom bool // print as confcom does, with two empty lines after each policy
}

// platforms are the values of --for.
var platforms = map[string]spec.Platform{"run": spec.PlatformOwn, "aci": spec.PlatformACI, "vn2": spec.PlatformVirtualNode}

// forms are the values of --format.
var forms = []string{"raw", "pretty", "base64"}

// imageFlags are those that describe a container, which a description does by itself.
var imageFlags = []string{"egress", "env", "env-file", "user", "workdir", "entrypoint", "allow-exec", "tty"}

func (a *App) policyGenerateCommand() *cobra.Command {
	var o GenerateOptions
	c := &cobra.Command{
		Use:   "generate [flags] {IMAGE [--] [COMMAND...] | FILE...}",
		Short: "Make the policy of a description or an image",
		Long: `Make the policy that allows exactly what a description asks for, and print its text.

FILE is an ARM template, Kubernetes YAML, a Compose file, confcom's JSON or a list of
container definitions; - is standard input. The text is the one that Azure's confcom makes,
byte for byte. A file of several groups gives several policies, one after another.

IMAGE gives the policy of ` + "`cofferdam run`" + ` with the same flags and command: without the
fragment and the pause container of Azure's platform. As there, flags stand before the
image, and what follows it is the command. --for aci adds what Azure's platform has, and
takes several images as the containers of one group; then, and for files, flags may stand
anywhere, and a command stands behind --.

The images are opened, since a policy pins their layers' root hashes. ` + "`--update-lock`" + ` writes
what was found to a lock file; with it, generation needs no image and no network.` + "\n" + imagecmd.AboutReferences,
		Example: `  cofferdam policy generate oci-archive:redis.tar > policy.rego
  cofferdam policy generate --hash oci-archive:redis.tar -- redis-server --save ''
  cofferdam policy generate --parameters values.json --write template.json
  cofferdam policy generate --locked --diff template.json`,
		Args: o.divide,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			err := o.check(cmd)
			if err != nil {
				return err
			}
			o.noteLikelyFlags(cmd, a)
			return a.generate(ctx, cmd, &o, o.from)
		},
	}
	o.Container.Flags(c)
	o.images.flags(c)
	o.flags(c)
	a.OutputFlag(c)
	return c
}

func (o *GenerateOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		switch name { // as confcom has them
		case "debug-mode":
			name = "debug"
		case "disable-stdio":
			name = "no-stdio"
		}
		return pflag.NormalizedName(name)
	})
	o.DescriptionFlags(f)
	f.StringVar(&o.platform, "for", "", "where the group will run: run, aci or vn2 (default: as the description says)")
	f.StringVar(&o.api, "api", policy.DeployedAPI, "version of the policy's interface: "+strings.Join(policygen.APIs(), " or "))
	f.StringVar(&o.era, "compat", "", "write the text of an older confcom: "+strings.Join(policygen.Eras(), ", "))
	f.StringVar(&o.svn, "infrastructure-svn", "", "lowest version of the platform's own fragment (default "+policygen.DefaultInfrastructureSVN+")")
	f.BoolVar(&o.exclude, "exclude-default-fragments", false, "allow no fragment of the platform")
	f.BoolVar(&o.include, "include-fragments", false, "allow the fragments of --fragments-json, too")
	f.StringVar(&o.fragmentsFile, "fragments-json", "", "file of fragments to allow (JSON)")
	f.StringVar(&o.trustListsFile, "trust-lists-json", "", "file of trust lists to allow (JSON; needs --api "+policy.PrereleaseAPI+")")
	f.BoolVar(&o.omitID, "omit-id", false, "leave the image references out of the text")
	f.BoolVar(&o.enableStdio, "enable-stdio", false, "let the host read the containers' output (the default)")
	f.BoolVar(&o.hostNetwork, "allow-host-network", false, "allow the host's network (needs --api "+policy.PrereleaseAPI+")")
	f.StringVar(&o.form, "format", "raw", "form of the printed policy: raw, pretty or base64 (what ccePolicy holds)")
	f.BoolVar(&o.hash, "hash", false, "print the policy's SHA-256 instead of its text")
	f.StringVar(&o.file, "file", "", "write the text to a file, too")
	f.BoolVar(&o.write, "write", false, "write the policy into the description and print its SHA-256")
	f.BoolVarP(&o.yes, "yes", "y", false, "replace a policy that the description holds without asking")
	f.BoolVar(&o.diff, "diff", false, "compare with the policy that the description holds; exit code 3 if they differ")
	f.BoolVar(&o.sidecars, "validate-sidecar", false, "check that the sidecars' images may run as described; exit code 3 if not")
	for name, values := range map[string][]string{
		"for": {"run", "aci", "vn2"}, "api": policygen.APIs(), "compat": policygen.Eras(), "format": forms,
	} {
		_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // the flag exists: just defined
	}
}

// DescriptionFlags are those that say what a description leaves open.
func (o *GenerateOptions) DescriptionFlags(f *pflag.FlagSet) {
	f.StringArrayVar(&o.parameterFiles, "parameters", nil, "parameters file of the ARM template")
	f.StringArrayVarP(&o.parameters, "parameter", "p", nil, "one parameter: NAME=VALUE; wins over files")
	f.BoolVar(&o.wildcards, "approve-wildcards", false, "let variables whose value is not known have any value")
	f.StringVar(&o.resourceGroup, "resource-group", "", "name of the resource group, for templates that depend on it")
	f.StringVar(&o.location, "location", "", "location of the resource group, likewise")
	f.StringVar(&o.subscription, "subscription", "", "ID of the subscription, likewise")
}

// divide tells what the policy is made of from the command. What follows an image belongs to the command, as for run;
// what follows a description, or an image among several, may hold further flags. It runs before the flags are checked.
func (o *GenerateOptions) divide(cmd *cobra.Command, args []string) error {
	err := console.Arguments(1, -1, "a description or an image")(cmd, args)
	if err != nil {
		return err
	}
	if cmd.ArgsLenAtDash() == 0 {
		return console.Usage(cmd, "a description or an image is missing before --")
	}
	description, err := describes(args[0])
	if err != nil {
		return fmt.Errorf("reading the description: %w", err)
	}
	if !description && platforms[o.platform] == spec.PlatformOwn {
		o.from, o.Container.Command = args[:1], console.AfterDashes(args[1:])
		o.dashes = len(args) > 1 && args[1] == "--"
		return nil
	}
	f := cmd.Flags()
	f.SetInterspersed(true)
	err = f.Parse(args[1:])
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	if err != nil {
		return cmd.FlagErrorFunc()(cmd, err)
	}
	if help, _ := f.GetBool("help"); help {
		return pflag.ErrHelp
	}
	rest := f.Args()
	if dash := f.ArgsLenAtDash(); dash >= 0 {
		rest, o.Container.Command = rest[:dash], rest[dash:]
	}
	o.from = append(args[:1:1], rest...)
	return nil
}

// noteLikelyFlags says so when the command of an image begins with what is a flag of ours: it may have been meant as
// one, and the policy would silently say something else.
func (o *GenerateOptions) noteLikelyFlags(cmd *cobra.Command, a *App) {
	if o.dashes || len(o.Container.Command) == 0 {
		return
	}
	name, long := strings.CutPrefix(o.Container.Command[0], "--")
	name, _, _ = strings.Cut(name, "=")
	if long && cmd.Flags().Lookup(name) != nil {
		a.Say("%s --%s stands behind the image and is the command's; flags of ours stand before the image", a.Style(a.Err).Warn("warning:"), name)
	}
}

// check refuses what can not be meant, before anything is opened.
func (o *GenerateOptions) check(cmd *cobra.Command) error {
	given := cmd.Flags().Changed
	var actions []string
	for _, name := range []string{"write", "diff", "validate-sidecar", "hash"} {
		if given(name) {
			actions = append(actions, "--"+name)
		}
	}
	_, known := platforms[o.platform]
	switch {
	case o.platform != "" && !known:
		return console.Usage(cmd, fmt.Sprintf("--for is %q; want run, aci or vn2", o.platform))
	case !slices.Contains(forms, o.form):
		return console.Usage(cmd, fmt.Sprintf("--format is %q; want %s", o.form, strings.Join(forms, ", ")))
	case given("api") && o.era != "":
		return console.Usage(cmd, "--api and --compat exclude each other: an older text has its own version")
	case len(actions) > 1:
		return console.Usage(cmd, strings.Join(actions, " and ")+" exclude each other")
	case o.enableStdio && o.Container.noStdio:
		return console.Usage(cmd, "--enable-stdio and --no-stdio exclude each other")
	case o.include && o.fragmentsFile == "":
		return console.Usage(cmd, "--include-fragments needs --fragments-json")
	case !o.include && o.fragmentsFile != "":
		return console.Usage(cmd, "--fragments-json counts only with --include-fragments")
	case o.exclude && o.svn != "":
		return console.Usage(cmd, "--infrastructure-svn and --exclude-default-fragments exclude each other")
	case o.yes && !o.write:
		return console.Usage(cmd, "--yes is for --write")
	case o.trustListsFile != "" && o.api != policy.PrereleaseAPI:
		return console.Usage(cmd, "--trust-lists-json needs --api "+policy.PrereleaseAPI)
	case o.hostNetwork && o.api != policy.PrereleaseAPI:
		return console.Usage(cmd, "--allow-host-network needs --api "+policy.PrereleaseAPI)
	}
	if _, err := strconv.ParseUint(o.svn, 10, 31); o.svn != "" && err != nil {
		return console.Usage(cmd, fmt.Sprintf("--infrastructure-svn is %q; want a number", o.svn))
	}
	if _, err := o.policyOptions(spec.PlatformACI); err != nil {
		return console.Usage(cmd, err.Error())
	}
	return o.images.check(cmd)
}

// policyOptions are those of a group on a platform.
func (o *GenerateOptions) policyOptions(p spec.Platform) (policygen.Options, error) {
	var out policygen.Options
	if p == spec.PlatformOwn {
		out = policygen.RunOptions()
	}
	out.ExcludeDefaultFragment = out.ExcludeDefaultFragment || o.exclude
	out.InfrastructureSVN, out.OmitID = o.svn, o.omitID
	out.WithoutStdio, out.AllowHostNetwork = o.Container.noStdio, o.hostNetwork
	if o.era != "" {
		if err := out.SetEra(o.era); err != nil {
			return out, fmt.Errorf("--compat: %w", err)
		}
		return out, nil
	}
	if err := out.SetAPI(o.api); err != nil {
		return out, fmt.Errorf("--api: %w", err)
	}
	return out, nil
}

// made is one policy with what it was made from.
type made struct {
	group  spec.Group
	facts  map[string]policygen.ImageFacts
	policy *policy.Policy
	text   []byte
}

// bareContainer is a container of which nothing is said but its image.
func bareContainer(name, image string) spec.Container {
	return spec.Container{Name: name, Image: image, AllowStdio: true, AllowPrivilegeEscalation: true}
}

func (a *App) generate(ctx context.Context, cmd *cobra.Command, o *GenerateOptions, args []string) error {
	in, err := a.inputs(ctx, cmd, o, args)
	if err != nil {
		return err
	}
	return a.generateFrom(ctx, o, in)
}

func (a *App) generateFrom(ctx context.Context, o *GenerateOptions, in *Input) error {
	list, err := a.makePolicies(ctx, o, in)
	if err != nil {
		return err
	}
	switch {
	case o.write:
		return a.writePolicies(in, list, o.yes)
	case o.diff:
		return a.diffPolicies(list)
	case o.sidecars:
		return a.validateSidecars(o, list)
	}
	return a.printPolicies(o, list)
}

// makePolicies makes the policies of one input's groups.
func (a *App) makePolicies(ctx context.Context, o *GenerateOptions, in *Input) ([]made, error) {
	images, err := a.imageFacts(o.images, in.File)
	if err != nil {
		return nil, err
	}
	fragments, err := readFragments(o.fragmentsFile)
	if err != nil {
		return nil, err
	}
	trustLists, err := readTrustLists(o.trustListsFile)
	if err != nil {
		return nil, err
	}
	var list []made
	for _, g := range in.Groups {
		options, err := o.policyOptions(g.Platform)
		if err != nil {
			return nil, err
		}
		options.Fragments, options.TrustLists = fragments, trustLists
		options.NameByImage, options.ConfcomJSON = in.bare, g.Origin == wholeDocument && g.Platform != spec.PlatformOwn
		facts, err := images.resolve(ctx, &g)
		if err != nil {
			return nil, err
		}
		if !o.sidecars && onlySidecars(&g) {
			return nil, errors.New("all containers are the platform's own (sidecars): a fragment of the platform allows them, a group's policy does not; --validate-sidecar checks them")
		}
		p, err := policygen.Generate(g, facts, options)
		if err != nil {
			return nil, err
		}
		a.WarnSecrets(&g, p)
		list = append(list, made{group: g, facts: facts, policy: p, text: p.Text()})
	}
	return list, images.finish()
}

func onlySidecars(g *spec.Group) bool {
	for _, c := range g.Containers {
		if !policygen.Sidecar(c.Image) {
			return false
		}
	}
	return len(g.Definitions) == 0 && g.Platform != spec.PlatformOwn
}
