// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"fmt"
	"math/big"
	"regexp"
	"strconv"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

// limits reads what a service may use, in the form of old and in the one under deploy, and what else stands there.
func (r *reader) limits(v *doc.Value, c *spec.Container) error {
	var err error
	if c.Resources.LimitCPUMillis, err = r.processors(v, "cpus"); err != nil {
		return err
	}
	if c.Resources.LimitMemoryBytes, err = r.bytes(v, "mem_limit"); err != nil {
		return err
	}
	if c.Resources.RequestMemoryBytes, err = r.bytes(v, "mem_reservation"); err != nil {
		return err
	}
	if err := r.oneOf(v, "scale"); err != nil {
		return err
	}
	d := v.Get("deploy")
	if d.IsNull() {
		return nil
	}
	err = checkKeys(d, "mode", "replicas", "resources", "restart_policy", "endpoint_mode", "placement", "labels", "update_config", "rollback_config")
	if err != nil {
		return err
	}
	if err := r.oneOf(d, "replicas"); err != nil {
		return err
	}
	if err := r.deployedRestart(d.Get("restart_policy"), c); err != nil {
		return err
	}
	return r.deployed(d.Get("resources"), c)
}

// oneOf warns of a number of instances that is not one.
func (r *reader) oneOf(v *doc.Value, key string) error {
	s, err := r.text(v, key)
	if err == nil && s != "" && s != "1" {
		r.warnings.Add(spec.WarnChanged, v.Get(key).Path, "%s is %s, and one instance is run", key, s)
	}
	return err
}

// deployedRestart reads the restart policy under deploy, which wins.
func (r *reader) deployedRestart(v *doc.Value, c *spec.Container) error {
	if v.IsNull() {
		return nil
	}
	if err := checkKeys(v, "condition", "delay", "max_attempts", "window"); err != nil {
		return err
	}
	condition, err := r.text(v, "condition")
	if err != nil {
		return err
	}
	policy, ok := map[string]spec.RestartPolicy{
		"": spec.RestartAlways, "any": spec.RestartAlways, "on-failure": spec.RestartOnFailure, "none": spec.RestartNever,
	}[condition]
	if !ok {
		return v.Errorf("condition %q is none of any, on-failure, none", condition)
	}
	c.Restart, c.MaxRestarts = policy, 0
	for _, key := range []string{"delay", "window"} {
		if w := v.Get(key); !w.IsNull() {
			r.warnings.Add(spec.WarnIgnored, w.Path, "%s has no effect here: the time between restarts grows by itself", key)
		}
	}
	attempts := v.Get("max_attempts")
	if attempts.IsNull() {
		return nil
	}
	s, err := r.text(v, "max_attempts")
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || policy != spec.RestartOnFailure {
		return attempts.Errorf("max_attempts is %q, and only condition on-failure has a number", s)
	}
	c.MaxRestarts = int(n)
	return nil
}

// deployed reads the resources under deploy. Said twice, they must be the same.
func (r *reader) deployed(v *doc.Value, c *spec.Container) error {
	if v.IsNull() {
		return nil
	}
	if err := checkKeys(v, "limits", "reservations"); err != nil {
		return err
	}
	own := &c.Resources
	for _, part := range []struct {
		key    string
		millis *int
		bytes  *uint64
	}{{"limits", &own.LimitCPUMillis, &own.LimitMemoryBytes}, {"reservations", &own.RequestCPUMillis, &own.RequestMemoryBytes}} {
		w := v.Get(part.key)
		if w.IsNull() {
			continue
		}
		if devices := w.Get("devices"); !devices.IsNull() {
			return devices.Errorf("there are no devices for a group")
		}
		if err := checkKeys(w, "cpus", "memory", "pids", "devices"); err != nil {
			return err
		}
		if pids := w.Get("pids"); !pids.IsNull() {
			r.warnings.Add(spec.WarnIgnored, pids.Path, "pids has no effect here")
		}
		millis, err := r.processors(w, "cpus")
		if err != nil {
			return err
		}
		bytes, err := r.bytes(w, "memory")
		if err != nil {
			return err
		}
		if *part.millis != 0 && millis != 0 && *part.millis != millis || *part.bytes != 0 && bytes != 0 && *part.bytes != bytes {
			return w.Errorf("the service says something else outside of deploy")
		}
		*part.millis, *part.bytes = max(*part.millis, millis), max(*part.bytes, bytes)
	}
	return nil
}

var decimal = regexp.MustCompile(`^[0-9]{1,9}(?:\.[0-9]{1,9})?$`)

// scalar reads a string or a number as it is written.
func (r *reader) scalar(v *doc.Value, key string) (string, error) {
	w := v.Get(key)
	if !w.IsNull() && w.Kind == doc.Number {
		return w.Text, nil
	}
	return r.text(v, key)
}

// processors reads a decimal number of them, in thousandths.
func (r *reader) processors(v *doc.Value, key string) (int, error) {
	s, err := r.scalar(v, key)
	if err != nil || s == "" {
		return 0, err
	}
	if !decimal.MatchString(s) {
		return 0, v.Get(key).Errorf("%s is %q, expected a decimal number such as 1.5", key, s)
	}
	n, err := scaled(s, 1000)
	if err != nil {
		return 0, v.Get(key).Errorf("%s: %w", key, err)
	}
	return int(n), nil // ten digits and three
}

func (r *reader) bytes(v *doc.Value, key string) (uint64, error) {
	s, err := r.scalar(v, key)
	if err != nil || s == "" {
		return 0, err
	}
	n, err := bytesOf(s)
	if err != nil {
		return 0, v.Get(key).Errorf("%s: %w", key, err)
	}
	return n, nil
}

var byteForm = regexp.MustCompile(`^([0-9]{1,18}(?:\.[0-9]{1,9})?) ?([kmgt]?)(?:i?b)?$`)

// bytesOf reads a size such as 64m. Units are powers of 1024, and none means bytes.
func bytesOf(s string) (uint64, error) {
	m := byteForm.FindStringSubmatch(strings.ToLower(s))
	if m == nil {
		return 0, fmt.Errorf("%q is no size such as 64m", s)
	}
	unit := int64(1)
	if m[2] != "" {
		unit <<= 10 * (strings.Index("kmgt", m[2]) + 1)
	}
	return scaled(m[1], unit)
}

// scaled multiplies a decimal number, rounded up.
func scaled(number string, unit int64) (uint64, error) {
	q, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, fmt.Errorf("%q is no decimal number", number)
	}
	q.Mul(q, big.NewRat(unit, 1))
	n, rest := new(big.Int).QuoRem(q.Num(), q.Denom(), new(big.Int))
	if rest.Sign() > 0 {
		n.Add(n, big.NewInt(1))
	}
	if !n.IsInt64() {
		return 0, fmt.Errorf("%q is too much", number)
	}
	return n.Uint64(), nil
}
