// SPDX-License-Identifier: Apache-2.0

// Package check is how an appraisal records what it looked at: each check by a stable name, with a stable code, what was
// expected and what was found, and what to change when it did not pass. All names and codes of the module are listed here,
// so that no two appraisers give one word two meanings.
//
// It trusts nothing and decides nothing: package verify draws the conclusion. A record only grows; nothing that was
// found can be taken back.
package check

import (
	"maps"
	"slices"
)

// Names returns the names of all checks, sorted.
func Names() []Name { return slices.Sorted(maps.Keys(titles)) }

// Title says in words what the check asks for.
func (n Name) Title() string { return titles[n] }

// Result is what one check comes to. Its zero value is none of the results and counts as a failure.
type Result string

// The results.
const (
	Pass       Result = "pass"
	Fail       Result = "fail"
	NotDecided Result = "undecided"
)

// Check is one check of an appraisal.
type Check struct {
	// Name says which check it is; it is stable.
	Name Name `json:"name"`
	// Code is CodeOK, or says in a stable word why the check did not pass.
	Code Code `json:"code"`
	// Title says in words what the check asks for.
	Title string `json:"title"`
	// Result is what the check came to.
	Result Result `json:"result"`
	// Expected and Actual are the values that were compared.
	Expected string `json:"expected,omitempty"`
	Actual   string `json:"actual,omitempty"`
	// Fix says what to change when the check did not pass.
	Fix string `json:"fix,omitempty"`
}

// Record is the checks of one appraisal in the order in which they were made. The zero value is empty. It is not safe for
// concurrent use.
type Record struct{ checks []Check }

// Pass records a check that passed.
func (r *Record) Pass(name Name, expected, actual string) {
	r.add(name, CodeOK, Pass, expected, actual)
}

// Fail records a check that found something wrong.
func (r *Record) Fail(name Name, code Code, expected, actual string) {
	r.add(name, code, Fail, expected, actual)
}

// Undecided records a check that could not be made, because something was missing or out of date.
func (r *Record) Undecided(name Name, code Code, expected, actual string) {
	r.add(name, code, NotDecided, expected, actual)
}

// Require records a check that passed if ok is true, and else failed with the code.
func (r *Record) Require(ok bool, name Name, code Code, expected, actual string) {
	if ok {
		r.Pass(name, expected, actual)
		return
	}
	r.Fail(name, code, expected, actual)
}

// Adopt appends what another record has.
func (r *Record) Adopt(o *Record) { r.checks = append(r.checks, o.checks...) }

// Checks returns a copy of what was recorded.
func (r *Record) Checks() []Check { return slices.Clone(r.checks) }

func (r *Record) add(name Name, code Code, result Result, expected, actual string) {
	r.checks = append(r.checks, Check{
		Name: name, Code: code, Title: titles[name], Result: result, Expected: expected, Actual: actual, Fix: fixes[code],
	})
}
