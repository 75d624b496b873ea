// SPDX-License-Identifier: Apache-2.0

// Package diff compares what two policies admit.
//
// A request counts as admitted when it is allowed with everything that it asks for: a variable or a capability that
// would be dropped does not count, nor does a process whose streams are withheld when they are wanted. One policy is
// wider when it admits every sequence of requests that the other admits, and more.
//
// No answer is guessed. "More" is shown by a witness: a sequence of requests that two engines, freshly loaded, were
// asked, one of which admitted all of it and the other not its last. "Every" is shown by the policies' text, where
// their form permits the conclusion: rules that all go to the framework, and for each container one in the other policy
// that covers it. What can be shown neither way is undecided. Fragments count as what may be loaded, not for what they
// hold: nobody has read them. The package trusts neither policy.
package diff
