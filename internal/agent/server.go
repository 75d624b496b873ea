// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"

	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	guestv1 "cofferdam.dev/api/guest/v1"
)

// NewServer returns an RPC server that answers with s and takes no request that it does not understand whole.
func NewServer(s guestv1.GuestService) (*ttrpc.Server, error) {
	rpc, err := ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(strict))
	if err != nil {
		return nil, fmt.Errorf("making the RPC server: %w", err)
	}
	guestv1.RegisterGuestService(rpc, s)
	return rpc, nil
}

// strict refuses a request that can not be decoded or that has fields which this version does not know: their sender
// expects something of them.
func strict(ctx context.Context, unmarshal ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, method ttrpc.Method) (any, error) {
	return method(ctx, func(v any) error {
		err := unmarshal(v)
		if err != nil {
			d := denial(guestv1.CodeBadRequest, info.FullMethod, "the request can not be decoded")
			d.Actual = clip(err.Error(), maxQuoted)
			return d
		}
		m, ok := v.(proto.Message)
		if ok && !known(m.ProtoReflect()) {
			d := denial(guestv1.CodeBadRequest, info.FullMethod, "the request has fields that are not known here")
			d.Fix = "use a host of the guest's version"
			return d
		}
		return nil
	})
}

// known reports whether a message has known fields alone.
func known(m protoreflect.Message) bool {
	if len(m.GetUnknown()) > 0 {
		return false
	}
	ok := true
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil || f.IsMap(): // no request has a map
		case f.IsList():
			for i := range v.List().Len() {
				ok = ok && known(v.List().Get(i).Message())
			}
		default:
			ok = ok && known(v.Message())
		}
		return ok
	})
	return ok
}
