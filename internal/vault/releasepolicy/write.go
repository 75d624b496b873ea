// SPDX-License-Identifier: Apache-2.0

package releasepolicy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// Form is the way in which a service writes a policy down. Relying parties compare what they read with what they sent, so
// each service's own way is kept.
type Form int

const (
	// VaultForm is that of Key Vault: the version first and the authority before its conditions, without a final slash.
	VaultForm Form = iota
	// ManagedForm is that of a managed HSM: names in alphabetical order, and the version in three parts.
	ManagedForm
)

// Marshal writes the policy in a form.
func (p *Policy) Marshal(f Form) ([]byte, error) {
	w := &writer{form: f}
	version := p.Version
	if f == ManagedForm && version == "1.0" {
		version = "1.0.0"
	}
	w.text("{")
	if f == VaultForm {
		w.text(`"version":`).value(version).text(",")
	}
	w.text(`"anyOf":[`)
	for i := range p.Authorities {
		w.separate(i)
		w.authority(&p.Authorities[i])
	}
	w.text("]")
	if f == ManagedForm {
		w.text(`,"version":`).value(version)
	}
	w.text("}")
	if w.err != nil {
		return nil, fmt.Errorf("writing release policy: %w", w.err)
	}
	return w.b.Bytes(), nil
}

type writer struct {
	form Form
	b    bytes.Buffer
	err  error
}

func (w *writer) text(s string) *writer {
	w.b.WriteString(s)
	return w
}

// value writes a string as JSON does, but with <, > and & as they are.
func (w *writer) value(s string) *writer {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		w.err = err
	}
	w.b.Write(bytes.TrimRight(b.Bytes(), "\n"))
	return w
}

func (w *writer) separate(i int) {
	if i > 0 {
		w.text(",")
	}
}

func (w *writer) authority(a *Authority) {
	issuer := a.Issuer
	w.text("{")
	if w.form == VaultForm {
		issuer = strings.TrimRight(issuer, "/")
		w.text(`"authority":`).value(issuer).text(",")
	}
	w.combination(&a.Condition)
	if w.form == ManagedForm {
		w.text(`,"authority":`).value(issuer)
	}
	w.text("}")
}

func (w *writer) combination(c *Condition) {
	w.value(string(c.Combine)).text(":[")
	for i := range c.List {
		w.separate(i)
		w.text("{")
		if inner := &c.List[i]; inner.Combine != "" {
			w.combination(inner)
		} else {
			w.text(`"claim":`).value(inner.Claim).text(",").value(string(inner.Operator)).text(":")
			if err := json.Compact(&w.b, inner.Value); err != nil {
				w.err = err
			}
		}
		w.text("}")
	}
	w.text("]")
}
