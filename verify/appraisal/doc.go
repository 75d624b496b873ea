// SPDX-License-Identifier: Apache-2.0

// Package appraisal is what a relying party asks of evidence, as a file: the appraisal policy, in YAML or JSON. It is
// read strictly (an unknown key, a key that is given twice, a value of another form are errors with their place), turned
// into the options of package verify, and used to appraise.
//
// A policy is trusted: whoever writes it decides. It grants only what it names. What it leaves out is denied as package
// verify denies it, a list that is there and empty is an error, and a policy that accepts nothing at all is one, too.
// Rules in Rego may refuse what the typed part accepted and can never accept what that part refused.
//
// The package reads no files by itself and never touches the network or the clock: files that a policy names are read
// through a function of the caller, simulated roots and collateral come from the caller, and so does the time.
package appraisal
