// SPDX-License-Identifier: Apache-2.0

package policycmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/confcom"
	"cofferdam.dev/internal/spec/doc"
	"cofferdam.dev/internal/spec/reader"
	"cofferdam.dev/policy"
)

// wholeDocument is the origin of a group that is its document: confcom's own JSON.
const wholeDocument = "$"

// Input is what a policy is made from: descriptions, or images by themselves.
type Input struct {
	Groups []spec.Group
	// File is the description, or the first of several; empty for images.
	File string
	Data []byte
	// bare says that the containers are images without a name of their own.
	bare bool
}

// describes says whether an argument names a description: a file that is no archive.
func describes(arg string) (bool, error) {
	if arg == "-" {
		return true, nil
	}
	info, err := os.Stat(arg)
	switch {
	case errors.Is(err, fs.ErrNotExist) && slices.Contains([]string{".json", ".yaml", ".yml"}, filepath.Ext(arg)):
		return false, err // it would be an odd name for an image
	case err != nil || info.IsDir():
		return false, nil // an image, or nothing; opening it says which
	case !info.Mode().IsRegular():
		return true, nil // a pipe, which can be read but once
	}
	f, err := os.Open(arg)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }() // only read
	head := make([]byte, 512)
	n, _ := f.Read(head) // what cannot be read is said when the whole file is
	archive := bytes.HasPrefix(head, []byte("\x1f\x8b")) || n > 262 && bytes.Equal(head[257:262], []byte("ustar"))
	return !archive, nil
}

// inputs reads the arguments: descriptions, or images, but not both.
func (a *App) inputs(ctx context.Context, cmd *cobra.Command, o *GenerateOptions, args []string) (*Input, error) {
	files := 0
	for _, arg := range args {
		is, err := describes(arg)
		if err != nil {
			return nil, fmt.Errorf("reading the description: %w", err)
		}
		if is {
			files++
		}
	}
	switch {
	case files == 0:
		return a.imageInput(cmd, o, args)
	case files < len(args):
		return nil, console.Usage(cmd, "descriptions and images exclude each other; a command for an image stands behind --")
	}
	return a.DescriptionInput(ctx, cmd, o, args)
}

// imageInput makes one group of images.
func (a *App) imageInput(cmd *cobra.Command, o *GenerateOptions, args []string) (*Input, error) {
	switch {
	case o.write || o.diff:
		return nil, console.Usage(cmd, "--write and --diff need a description that holds a policy")
	case len(o.parameters) > 0 || len(o.parameterFiles) > 0:
		return nil, console.Usage(cmd, "parameters are for ARM templates")
	case platforms[o.platform] == spec.PlatformOwn && (o.svn != "" || o.exclude):
		return nil, console.Usage(cmd, "--infrastructure-svn and --exclude-default-fragments are about Azure's platform: add --for aci")
	}
	g := spec.Group{Platform: platforms[o.platform], Debug: o.Container.Debug}
	for i, image := range args {
		o.Container.Image = image
		one, err := o.Container.Group(cmd, a, spec.RunFlags{})
		if err != nil {
			return nil, err
		}
		c := one.Containers[0]
		g.Egress = one.Egress
		if len(args) > 1 {
			c.Name = fmt.Sprintf("image-%d", i+1) // the policy has the image's reference in its place
		}
		g.Containers = append(g.Containers, c)
	}
	if len(args) > 1 && len(o.Container.Command) > 0 {
		return nil, console.Usage(cmd, "a command is for one image, got several")
	}
	return &Input{Groups: []spec.Group{g}, bare: g.Platform != spec.PlatformOwn}, nil
}

// DescriptionInput reads the arguments as descriptions.
func (a *App) DescriptionInput(ctx context.Context, cmd *cobra.Command, o *GenerateOptions, args []string) (*Input, error) {
	for _, name := range imageFlags {
		if cmd.Flags().Changed(name) && cmd.Parent().Name() != "group" { // a group's flags of these names are its own
			return nil, console.Usage(cmd, fmt.Sprintf("--%s is for images; a description says it itself", name))
		}
	}
	if len(o.Container.Command) > 0 {
		return nil, console.Usage(cmd, "a command is for an image; a description says it itself")
	}
	if o.write && (len(args) > 1 || args[0] == "-") {
		return nil, console.Usage(cmd, "--write needs one file")
	}
	var files []reader.Input
	for _, arg := range args {
		data, err := console.ReadLimited(arg, a.In, doc.MaxBytes)
		if err != nil {
			return nil, fmt.Errorf("reading the description: %w", err)
		}
		files = append(files, reader.Input{Name: arg, Data: data})
	}
	return a.readDescriptions(ctx, cmd, o, files)
}

// readDescriptions reads the groups of files that belong together.
func (a *App) readDescriptions(ctx context.Context, cmd *cobra.Command, o *GenerateOptions, files []reader.Input) (*Input, error) {
	in := &Input{File: files[0].Name, Data: files[0].Data}
	ro, err := o.readerOptions(cmd, a)
	if err != nil {
		return nil, err
	}
	for i := range files {
		files[i].File = filesOf(files[i].Name)
	}
	var warnings []spec.Warning
	in.Groups, warnings, err = reader.Read(ctx, files, ro)
	if err != nil {
		return nil, a.readFailure(err)
	}
	for _, w := range warnings {
		a.Say("%s %s", a.Style(a.Err).Warn("warning:"), console.OneLine(w.String()))
	}
	for i := range in.Groups {
		if o.platform != "" {
			in.Groups[i].Platform = platforms[o.platform]
		}
	}
	return in, nil
}

// readFailure puts the way out beside what a description leaves open.
func (a *App) readFailure(err error) error {
	var wildcard *spec.WildcardError
	if errors.As(err, &wildcard) {
		return console.Fixed(err, "-p NAME=VALUE, or --subscription, --resource-group, --location, if the value is known; else --approve-wildcards")
	}
	return err
}

// readerOptions is what the flags say about a description.
func (o *GenerateOptions) readerOptions(cmd *cobra.Command, a *App) (reader.Options, error) {
	out := reader.Options{
		Parameters: map[string]string{}, VirtualNode: platforms[o.platform] == spec.PlatformVirtualNode, Variable: a.LookupEnv,
		SubscriptionID: o.subscription, ResourceGroup: o.resourceGroup, Location: o.location,
		AllowWildcards: o.wildcards, DisableStdio: o.Container.noStdio, Debug: o.Container.Debug,
	}
	for _, text := range o.parameters {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return out, console.Usage(cmd, fmt.Sprintf("--parameter %q is not NAME=VALUE", text))
		}
		out.Parameters[name] = value
	}
	for _, name := range o.parameterFiles {
		data, err := console.ReadLimited(name, nil, doc.MaxBytes)
		if err != nil {
			return out, fmt.Errorf("reading the parameters: %w", err)
		}
		out.ParameterFiles = append(out.ParameterFiles, reader.Input{Name: name, Data: data})
	}
	return out, nil
}

// readFragments reads a file of fragments as confcom takes it: an object with fragments, or a list of them.
func readFragments(name string) ([]policy.Fragment, error) {
	if name == "" {
		return nil, nil
	}
	data, err := console.ReadLimited(name, nil, doc.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("reading fragments: %w", err)
	}
	v, err := doc.ParseJSON(data)
	if err == nil && v.Kind == doc.Array {
		v = &doc.Value{Kind: doc.Object, Path: v.Path, Line: v.Line, Members: []doc.Member{{Key: "fragments", Value: v}}}
	}
	var g spec.Group
	if err == nil {
		g, err = confcom.Read(v, &spec.Warnings{})
	}
	if err == nil && len(g.Fragments) == 0 {
		err = errors.New("there are none")
	}
	if err != nil {
		return nil, fmt.Errorf("reading fragments of %s: %w", name, err)
	}
	var out []policy.Fragment
	for _, f := range g.Fragments {
		out = append(out, policy.Fragment{
			Issuer: f.Issuer, Feed: f.Feed, MinimumSVN: f.MinimumSVN, Includes: slices.Clone(f.Includes),
			RequiredReceipts: slices.Clone(f.RequiredReceipts),
		})
	}
	return out, nil
}
