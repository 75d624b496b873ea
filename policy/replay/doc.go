// SPDX-License-Identifier: Apache-2.0

// Package replay puts recorded requests to a policy again.
//
// A recording is a list of requests as the policy saw them, name and input, in the form that Microsoft's policy
// simulator reads (a JSON array of {"name", "input"}), or the same objects one a line; a recording of a running group
// tells the decision, too. They are decided in order by the engine that guests use, state included. Recordings come from
// anywhere: they are bounded and read strictly as far as their frame goes; what an input holds is for the policy to
// judge. Nothing is mounted or started.
package replay
