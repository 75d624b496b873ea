// SPDX-License-Identifier: Apache-2.0

package lockfile

import (
	"errors"
	"fmt"

	"cofferdam.dev/internal/policygen"
)

// imageFacts is one image in a file of facts. The configuration has the names that image configurations have.
type imageFacts struct {
	Config struct {
		Env        []string
		Cmd        []string
		Entrypoint []string
		WorkingDir string
		User       string
		StopSignal string
		Volumes    []string `json:",omitempty"`
	} `json:"config"`
	Layers []string `json:"layers"`
}

// Facts are what is known about images, by their references.
type Facts map[string]policygen.ImageFacts

// ParseFacts reads a file of image facts: an object of image references, each with config and layers.
func ParseFacts(data []byte) (Facts, error) {
	var file map[string]imageFacts
	if err := strict(data, 0, &file); err != nil {
		return nil, fmt.Errorf("reading image facts: %w", err)
	}
	facts := make(Facts, len(file))
	for ref, f := range file {
		err := checkLayers(f.Layers)
		if ref == "" {
			err = errors.New("the reference is empty")
		}
		if err != nil {
			return nil, fmt.Errorf("reading image facts: image %q: %w", ref, err)
		}
		c := f.Config
		facts[ref] = policygen.ImageFacts{Reference: ref, LayerRoots: f.Layers, Config: policygen.ImageConfig{
			Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, User: c.User, WorkingDir: c.WorkingDir,
			StopSignal: c.StopSignal, Volumes: c.Volumes,
		}}
	}
	return facts, nil
}
