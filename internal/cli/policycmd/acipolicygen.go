// SPDX-License-Identifier: Apache-2.0

package policycmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
	"cofferdam.dev/internal/spec/reader"
	"cofferdam.dev/policy"
)

// exitMismatch is confcom's exit code for a difference.
const exitMismatch = 2

// acipolicygenOptions are what `az confcom acipolicygen` is asked for, by its names.
type acipolicygenOptions struct {
	generate GenerateOptions

	input, template, pods, image string
	containers                   []string
	tar                          string
	raw, pretty, encoded         bool
	printExisting                bool
	prerelease                   bool
	platform                     string
	fasterHashing                bool
}

// acipolicygenCommand is `policy generate` with the flags, the defaults, the output and the exit codes of confcom, for
// scripts that exist.
func (a *App) acipolicygenCommand() *cobra.Command {
	o := acipolicygenOptions{generate: GenerateOptions{asConfcom: true}}
	c := &cobra.Command{
		Use:    "acipolicygen",
		Hidden: true,
		Short:  "Make a policy, asked for as Azure's confcom is",
		Long: `Make policies with the flags, the output and the exit codes of ` + "`az confcom acipolicygen`" + `,
for scripts that exist. ` + "`cofferdam policy generate`" + ` does more.`,
		Example: `  cofferdam policy acipolicygen -a template.json -p values.json --outraw`,
		Args:    console.Arguments(0, 0, "flags alone"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			err := a.acipolicygen(ctx, cmd, &o)
			var f *console.Failure
			if errors.As(err, &f) && f.Code == console.ExitRefused {
				g := *f
				g.Code = exitMismatch
				return &g
			}
			return err
		},
	}
	o.flags(c)
	return c
}

func (o *acipolicygenOptions) flags(c *cobra.Command) {
	f, g := c.Flags(), &o.generate
	f.StringVarP(&o.input, "input", "i", "", "confcom's JSON description")
	f.StringVarP(&o.template, "template-file", "a", "", "ARM template")
	f.StringVar(&o.pods, "virtual-node-yaml", "", "Kubernetes YAML for the virtual node")
	f.StringVar(&o.image, "image", "", "one image")
	f.StringArrayVar(&o.containers, "with-containers", nil, "container definitions (JSON)")
	f.StringArrayVarP(&g.parameterFiles, "parameters", "p", nil, "parameters file of the template")
	f.StringVar(&o.tar, "tar", "", "archive of the image, or a JSON file of archives by image")
	f.StringVar(&g.svn, "infrastructure-svn", "", "lowest version of the infrastructure fragment")
	f.BoolVar(&g.Container.Debug, "debug-mode", false, "allow debugging")
	f.BoolVar(&g.enableStdio, "enable-stdio", false, "let the host read the containers' output")
	f.BoolVar(&g.Container.noStdio, "disable-stdio", false, "keep the containers' output from the host")
	f.BoolVarP(&g.wildcards, "approve-wildcards", "y", false, "approve of variables with any value")
	f.BoolVarP(&g.exclude, "exclude-default-fragments", "e", false, "allow no fragment of the platform")
	f.BoolVarP(&g.include, "include-fragments", "f", false, "allow further fragments")
	f.StringVarP(&g.fragmentsFile, "fragments-json", "j", "", "file of those fragments")
	f.BoolVar(&g.omitID, "omit-id", false, "leave image references out")
	f.BoolVarP(&g.diff, "diff", "d", false, "compare with the policy in the description")
	f.BoolVar(&g.sidecars, "validate-sidecar", false, "check sidecars (no short form: -v is --verbose)")
	f.BoolVar(&o.printExisting, "print-existing-policy", false, "print the policy in the description")
	f.BoolVar(&o.raw, "outraw", false, "print the text")
	f.BoolVar(&o.pretty, "outraw-pretty-print", false, "print the text, indented")
	f.BoolVar(&o.encoded, "print-policy", false, "print the text in base64")
	f.BoolVar(&o.prerelease, "prerelease-policy-api", false, "use the prerelease interface")
	f.StringVar(&o.platform, "platform", "linux/amd64", "platform of the images")
	f.BoolVar(&o.fasterHashing, "faster-hashing", false, "accepted; hashing is always fast")
	f.BoolVar(&g.yes, "yes", false, "replace a policy without asking (not a flag of confcom)")
	f.StringArrayVar(&g.images.facts, "facts", nil, "image facts (not a flag of confcom)")
}

func (a *App) acipolicygen(ctx context.Context, cmd *cobra.Command, o *acipolicygenOptions) error {
	g := &o.generate
	err := o.settle(cmd)
	if err != nil {
		return err
	}
	in, err := a.acipolicygenInput(ctx, cmd, o)
	if err != nil {
		return err
	}
	if o.printExisting {
		return a.printExisting(in)
	}
	g.images.archives, err = o.archives(cmd, in)
	if err != nil {
		return err
	}
	return a.generateFrom(ctx, g, in)
}

// settle checks the flags and turns them into ours.
func (o *acipolicygenOptions) settle(cmd *cobra.Command) error {
	g := &o.generate
	sources := 0
	for _, given := range []bool{o.input != "", o.template != "", o.pods != "", o.image != "", len(o.containers) > 0} {
		if given {
			sources++
		}
	}
	forms := 0
	for _, given := range []bool{o.raw, o.pretty, o.encoded} {
		if given {
			forms++
		}
	}
	switch {
	case sources != 1:
		return console.Usage(cmd, "exactly one of -a, -i, --virtual-node-yaml, --image and --with-containers is needed")
	case forms > 1:
		return console.Usage(cmd, "--outraw, --outraw-pretty-print and --print-policy exclude each other")
	case o.platform != "linux/amd64":
		return console.Usage(cmd, fmt.Sprintf("--platform is %q; only linux/amd64 is supported", o.platform))
	}
	g.form = "base64"
	switch {
	case o.raw:
		g.form = "raw"
	case o.pretty:
		g.form = "pretty"
	}
	g.api, g.platform = policy.DeployedAPI, ""
	if o.prerelease {
		g.api = policy.PrereleaseAPI
	}
	if o.pods != "" {
		g.platform = "vn2"
	}
	g.write = (o.template != "" || o.pods != "") && forms == 0 && !g.diff && !g.sidecars && !o.printExisting
	g.yes = g.yes && g.write
	if o.input != "" && g.fragmentsFile == "" {
		g.include = false // those of the description are meant, which are allowed anyway
	}
	if !g.include {
		g.fragmentsFile = "" // as there, it counts only with --include-fragments
	}
	return g.check(cmd)
}

// acipolicygenInput reads the one source.
func (a *App) acipolicygenInput(ctx context.Context, cmd *cobra.Command, o *acipolicygenOptions) (*Input, error) {
	g := &o.generate
	if o.image != "" {
		if g.diff || g.write || o.printExisting {
			return nil, console.Usage(cmd, "an image holds no policy")
		}
		c := bareContainer("image-1", o.image)
		return &Input{Groups: []spec.Group{{Platform: spec.PlatformACI, Debug: g.Container.Debug, Containers: []spec.Container{c}}}, bare: true}, nil
	}
	var files []reader.Input
	for _, text := range o.containers {
		files = append(files, reader.Input{Name: "--with-containers", Data: []byte(text)})
	}
	if name := o.template + o.input + o.pods; name != "" {
		data, err := console.ReadLimited(name, nil, doc.MaxBytes)
		if err != nil {
			return nil, fmt.Errorf("reading the description: %w", err)
		}
		files = append(files, reader.Input{Name: name, Data: data})
	}
	return a.readDescriptions(ctx, cmd, g, files)
}

// archives says in which archive each image is.
func (o *acipolicygenOptions) archives(cmd *cobra.Command, in *Input) (map[string]string, error) {
	if o.tar == "" {
		return nil, nil
	}
	names := map[string]string{}
	if strings.HasSuffix(o.tar, ".json") {
		data, err := console.ReadLimited(o.tar, nil, doc.MaxBytes)
		if err == nil {
			err = json.Unmarshal(data, &names)
		}
		if err != nil {
			return nil, fmt.Errorf("reading the archives of --tar: %w", err)
		}
	}
	out := map[string]string{}
	for _, g := range in.Groups {
		for _, c := range g.Containers {
			if strings.Contains(c.Image, "@") {
				return nil, console.Usage(cmd, fmt.Sprintf("--tar and the digest in %q exclude each other: an archive has another digest", c.Image))
			}
			file := o.tar
			if len(names) > 0 {
				file = names[c.Image]
			}
			if file == "" {
				return nil, fmt.Errorf("%s names no archive for %s", o.tar, c.Image)
			}
			kind, err := archiveKind(file)
			if err == nil && kind == "" {
				err = errors.New("it is no archive of an image")
			}
			if err != nil {
				return nil, fmt.Errorf("reading %s: %w", file, err)
			}
			out[c.Image] = kind + ":" + file
		}
	}
	if len(names) == 0 && len(out) > 1 {
		return nil, console.Usage(cmd, "one archive for several images: --tar takes a JSON file of archives by image")
	}
	return out, nil
}

// printExisting prints the policies that a description holds.
func (a *App) printExisting(in *Input) error {
	for _, g := range in.Groups {
		text, err := existing(made{group: g})
		if err != nil {
			return err
		}
		if p, err := policy.Parse(text); err == nil {
			text = p.PrettyText()
		}
		_, err = io.WriteString(a.Out, string(text)+"\n")
		if err != nil {
			return fmt.Errorf("writing the answer: %w", err)
		}
	}
	return nil
}
