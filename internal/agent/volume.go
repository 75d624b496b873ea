// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"

	guestv1 "cofferdam.dev/api/guest/v1"
)

func unsupported(call string) error {
	return denial(guestv1.CodeFailed, call, "this guest can not do that yet")
}

// FillVolume implements guestv1.GuestService.
func (s *Service) FillVolume(context.Context, *guestv1.FillVolumeRequest) (*guestv1.FillVolumeResponse, error) {
	return nil, unsupported("FillVolume")
}

// ShareVolume implements guestv1.GuestService.
func (s *Service) ShareVolume(context.Context, *guestv1.ShareVolumeRequest) (*guestv1.ShareVolumeResponse, error) {
	return nil, unsupported("ShareVolume")
}

// Probe implements guestv1.GuestService.
func (s *Service) Probe(context.Context, *guestv1.ProbeRequest) (*guestv1.ProbeResponse, error) {
	return nil, unsupported("Probe")
}

// TerminationMessage implements guestv1.GuestService.
func (s *Service) TerminationMessage(context.Context, *guestv1.TerminationMessageRequest) (*guestv1.TerminationMessageResponse, error) {
	return nil, unsupported("TerminationMessage")
}
