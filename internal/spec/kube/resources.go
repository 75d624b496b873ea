// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

// resources reads what a container asks for and may have. As in a cluster, what it may have is what it asks for where
// nothing else is said.
func (p *pod) resources(c *doc.Value, out *spec.Container) error {
	v := c.Get("resources")
	if v.IsNull() {
		return nil
	}
	if err := checkKeys(v, "limits", "requests", "claims"); err != nil {
		return err
	}
	own := &out.Resources
	for _, part := range []struct {
		key    string
		millis *int
		bytes  *uint64
	}{{"limits", &own.LimitCPUMillis, &own.LimitMemoryBytes}, {"requests", &own.RequestCPUMillis, &own.RequestMemoryBytes}} {
		for _, m := range v.Get(part.key).MembersOf() {
			unit := int64(1)
			switch {
			case m.Key == "cpu":
				unit = 1000
			case m.Key == "ephemeral-storage":
				continue
			case m.Key != "memory" && p.options.VirtualNode:
				continue
			case m.Key != "memory":
				return m.Value.Errorf("there is no %s for a group", m.Key)
			}
			n, err := whole(m.Value, unit)
			if err != nil {
				return err
			}
			if m.Key == "cpu" {
				*part.millis = int(n) // whole bounds it
			} else {
				*part.bytes = n
			}
		}
	}
	if own.RequestCPUMillis == 0 {
		own.RequestCPUMillis = own.LimitCPUMillis
	}
	if own.RequestMemoryBytes == 0 {
		own.RequestMemoryBytes = own.LimitMemoryBytes
	}
	return nil
}

// whole reads a quantity in parts of 1/unit, rounded up.
func whole(v *doc.Value, unit int64) (uint64, error) {
	q, err := quantity(v)
	if err != nil {
		return 0, err
	}
	q.Mul(q, big.NewRat(unit, 1))
	n, rest := new(big.Int).QuoRem(q.Num(), q.Denom(), new(big.Int))
	if rest.Sign() > 0 {
		n.Add(n, big.NewInt(1))
	}
	if !n.IsInt64() {
		return 0, v.Errorf("%q is too much", v.Text)
	}
	return n.Uint64(), nil
}

var (
	quantityForm = regexp.MustCompile(`^([0-9]{1,20}(?:\.[0-9]{1,20})?)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]{1,2})?$`)
	fractions    = []string{"m", "u", "n"} // of a thousand each
)

// quantity reads an amount such as 500m, 64Mi or 1e3.
func quantity(v *doc.Value) (*big.Rat, error) {
	m := quantityForm.FindStringSubmatch(v.Text)
	if m == nil || v.Kind != doc.String && v.Kind != doc.Number {
		return nil, v.Errorf("%q is no quantity", v.Text)
	}
	q, ok := new(big.Rat).SetString(m[1])
	if !ok {
		return nil, v.Errorf("%q is no quantity", v.Text)
	}
	unit := m[2]
	base, exponent := int64(1000), 0
	switch i := slices.Index(fractions, unit); {
	case i >= 0:
		exponent = -i - 1
	case len(unit) > 1 && (unit[0] == 'e' || unit[0] == 'E' && unit[1] != 'i'):
		n, err := strconv.Atoi(unit[1:])
		if err != nil || max(n, -n) > 20 {
			return nil, v.Errorf("%q is no quantity", v.Text)
		}
		base, exponent = 10, n
	case strings.HasSuffix(unit, "i"):
		base, exponent = 1024, strings.IndexByte("KMGTPE", unit[0])+1
	case unit != "":
		exponent = strings.IndexByte("kMGTPE", unit[0]) + 1
	}
	factor := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(base), big.NewInt(int64(max(exponent, -exponent))), nil))
	if exponent < 0 {
		return q.Quo(q, factor), nil
	}
	return q.Mul(q, factor), nil
}
