// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"errors"

	"cofferdam.dev/internal/spec/doc"
)

// ReadMap reads a map of images: one YAML or JSON object, from the reference as descriptions write it to the reference of
// the image that takes its place.
func ReadMap(data []byte) (map[string]string, error) {
	documents, err := doc.ParseYAML(data)
	if err != nil {
		return nil, err
	}
	if len(documents) != 1 || documents[0].Kind != doc.Object {
		return nil, errors.New("it is not one object of references")
	}
	out := map[string]string{}
	for _, m := range documents[0].Members {
		if m.Value.Kind != doc.String || m.Value.Text == "" {
			return nil, m.Value.Errorf("%s stands where a reference is expected", m.Value.Kind)
		}
		out[m.Key] = m.Value.Text
	}
	return out, nil
}
