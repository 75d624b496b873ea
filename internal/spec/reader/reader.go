// SPDX-License-Identifier: Apache-2.0

// Package reader reads groups of containers from any of the descriptions that are understood.
//
// It finds out which kind a file is of by what it holds, never by its name, and hands it to the package for that kind.
// It trusts nothing that it reads, opens no file by itself and asks no network.
package reader

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/arm"
	"cofferdam.dev/internal/spec/compose"
	"cofferdam.dev/internal/spec/confcom"
	"cofferdam.dev/internal/spec/doc"
	"cofferdam.dev/internal/spec/kube"
)

// Format is a kind of description.
type Format string

// The formats. The empty one asks for detection.
const (
	FormatARM        Format = "arm"
	FormatKubernetes Format = "kubernetes"
	FormatCompose    Format = "compose"
	FormatConfcom    Format = "confcom"
	FormatContainers Format = "containers"
)

// Input is one file.
type Input struct {
	Name string
	Data []byte

	// File reads a file that a Compose file names (env_file, secrets, configs), by the name that it uses; the error is
	// fs.ErrNotExist when there is none. Nil has no files.
	File func(name string) ([]byte, error)
}

// Options say what a description leaves open.
type Options struct {
	Format Format

	// Parameters and ParameterFiles are for ARM templates: values as text by name, which win, and files of them.
	Parameters     map[string]string
	ParameterFiles []Input

	// What is known of an ARM deployment; empty if nothing.
	SubscriptionID string
	ResourceGroup  string
	Location       string
	TenantID       string

	// VirtualNode makes the pods of Kubernetes descriptions run on Azure's virtual node.
	VirtualNode bool

	// Variable looks up what stands in ${…} in a Compose file.
	Variable func(string) (string, bool)

	// AllowWildcards approves of rules that admit any value of an environment variable, where it is not known.
	AllowWildcards bool

	// DisableStdio keeps the standard streams of all containers from the host. Debug allows shells and logs.
	DisableStdio bool
	Debug        bool
}

// Read reads the groups of one or several files. What must stand together, such as a pod and its ConfigMaps, may come in
// different Kubernetes files; container definitions of several files make one group.
func Read(ctx context.Context, inputs []Input, o Options) ([]spec.Group, []spec.Warning, error) {
	var groups []spec.Group
	var warnings spec.Warnings
	if len(inputs) == 0 {
		return nil, nil, errors.New("there is no description")
	}
	var objects []*doc.Value
	for _, in := range inputs {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		f, documents, err := open(in, o.Format)
		if err != nil {
			return nil, nil, fmt.Errorf("reading %s: %w", in.Name, err)
		}
		if f == FormatKubernetes {
			objects = append(objects, documents...)
			continue
		}
		list, err := one(ctx, f, documents[0], in, o, &warnings)
		if err != nil {
			return nil, nil, fmt.Errorf("reading %s: %w", in.Name, err)
		}
		groups = append(groups, list...)
	}
	if len(objects) > 0 {
		list, err := kube.Read(ctx, objects, kube.Options{VirtualNode: o.VirtualNode, AllowWildcards: o.AllowWildcards}, &warnings)
		if err != nil {
			return nil, nil, fmt.Errorf("reading Kubernetes objects: %w", err)
		}
		groups = append(groups, list...)
	}
	groups = joined(groups)
	for i := range groups {
		g := &groups[i]
		g.Debug = g.Debug || o.Debug
		for j := range g.Containers {
			g.Containers[j].AllowStdio = g.Containers[j].AllowStdio && !o.DisableStdio
		}
		if err := g.Validate(); err != nil {
			return nil, nil, fmt.Errorf("group at %s: %w", g.Origin, err)
		}
	}
	return groups, warnings, nil
}

// joined makes one group of those that hold definitions alone.
func joined(groups []spec.Group) []spec.Group {
	var out []spec.Group
	first := -1
	for _, g := range groups {
		alone := len(g.Definitions) > 0 && len(g.Containers) == 0
		switch {
		case alone && first >= 0:
			out[first].Definitions = append(out[first].Definitions, g.Definitions...)
			continue
		case alone:
			first = len(out)
		}
		out = append(out, g)
	}
	return out
}

func one(ctx context.Context, f Format, v *doc.Value, in Input, o Options, w *spec.Warnings) ([]spec.Group, error) {
	switch f {
	case FormatARM:
		ao := arm.Options{
			Parameters: o.Parameters, AllowWildcards: o.AllowWildcards, SubscriptionID: o.SubscriptionID,
			ResourceGroup: o.ResourceGroup, Location: o.Location, TenantID: o.TenantID,
		}
		for _, file := range o.ParameterFiles {
			p, err := doc.ParseJSON(file.Data)
			if err != nil {
				return nil, fmt.Errorf("parameters file %s: %w", file.Name, err)
			}
			ao.ParameterFiles = append(ao.ParameterFiles, p)
		}
		return arm.Read(ctx, v, ao, w)
	case FormatCompose:
		g, err := compose.Read(v, compose.Options{File: in.File, Variable: o.Variable}, w)
		return []spec.Group{g}, err
	case FormatConfcom:
		g, err := confcom.Read(v, w)
		return []spec.Group{g}, err
	case FormatContainers:
		g, err := confcom.ReadDefinitions(v)
		return []spec.Group{g}, err
	}
	return nil, fmt.Errorf("format %q is unknown", f)
}

// open parses a file and tells what it is.
func open(in Input, want Format) (Format, []*doc.Value, error) {
	trimmed := bytes.TrimLeft(bytes.TrimPrefix(in.Data, []byte("\xef\xbb\xbf")), " \t\r\n")
	isJSON := bytes.HasPrefix(trimmed, []byte("{")) || bytes.HasPrefix(trimmed, []byte("[")) || bytes.HasPrefix(trimmed, []byte("/"))
	if isJSON && want != FormatKubernetes && want != FormatCompose {
		v, err := doc.ParseJSON(in.Data)
		if err != nil {
			return "", nil, err
		}
		if want == "" {
			want = detect(v)
		}
		if want != "" && want != FormatKubernetes && want != FormatCompose {
			return want, []*doc.Value{v}, nil
		}
	}
	documents, err := doc.ParseYAML(in.Data)
	if err != nil {
		return "", nil, err
	}
	if len(documents) == 0 {
		return "", nil, errors.New("the file is empty")
	}
	if want == "" {
		want = detect(documents[0])
	}
	switch {
	case want == "":
		return "", nil, errors.New("it is neither an ARM template, a Kubernetes object, a Compose file, nor a description for confcom")
	case want != FormatKubernetes && len(documents) > 1:
		return "", nil, errors.New("the file holds several documents")
	}
	return want, documents, nil
}

// detect tells the format by the keys of a document.
func detect(v *doc.Value) Format {
	switch {
	case v.Get("apiVersion") != nil && v.Get("kind") != nil:
		return FormatKubernetes
	case arm.Detect(v):
		return FormatARM
	case v.Get("services") != nil:
		return FormatCompose
	case confcom.DetectDefinitions(v):
		return FormatContainers
	case confcom.Detect(v):
		return FormatConfcom
	}
	return ""
}
