// SPDX-License-Identifier: Apache-2.0

// Package lifecycle decides when the containers of a group are started, probed, stopped and started again.
//
// It is arithmetic alone: whoever runs the containers tells it what happened and at what time, and asks it for orders.
// It has no clock, starts nothing, and trusts only what it is told. The rules are those of the kubelet for pods, which
// container groups elsewhere follow as well; no policy depends on them, so nothing here can admit anything.
package lifecycle
