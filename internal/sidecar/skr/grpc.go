// SPDX-License-Identifier: Apache-2.0

package skr

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	kp "cofferdam.dev/api/keyprovider/v1"
	"cofferdam.dev/attest"
	"cofferdam.dev/internal/sidecar/config"
	"cofferdam.dev/release"
)

// Names of the key provider's service. The first is the sidecar's own, the second that of the ocicrypt library.
const (
	ServiceName   = "key_provider.KeyProviderService"
	OCICryptName  = "keyprovider.KeyProviderService"
	grpcFile      = "api/keyprovider/v1/key_provider.proto"
	maxGRPC       = 1 << 20
	grpcTime      = time.Minute
	maxConcurrent = 64
)

// provider are the calls of the service.
type provider interface {
	WrapKey(context.Context, *kp.KeyProviderKeyWrapProtocolInput) (*kp.KeyProviderKeyWrapProtocolOutput, error)
	UnWrapKey(context.Context, *kp.KeyProviderKeyWrapProtocolInput) (*kp.KeyProviderKeyWrapProtocolOutput, error)
	GetReport(context.Context, *kp.KeyProviderGetReportInput) (*kp.KeyProviderGetReportOutput, error)
	GetAttestationData(context.Context, *kp.KeyProviderGetAttestationDataInput) (*kp.KeyProviderGetAttestationDataOutput, error)
	SayHello(context.Context, *kp.HelloRequest) (*kp.HelloReply, error)
}

// keyProvider serves them.
type keyProvider struct{ *Server }

var _ provider = keyProvider{}

// NewGRPC returns a gRPC server that has the key provider under both of its names, and reflection.
func NewGRPC(s *Server) *grpc.Server {
	g := grpc.NewServer(grpc.MaxRecvMsgSize(maxGRPC), grpc.MaxConcurrentStreams(maxConcurrent), grpc.ConnectionTimeout(10*time.Second),
		grpc.UnaryInterceptor(s.contain))
	for _, name := range []string{ServiceName, OCICryptName} {
		g.RegisterService(describeService(name), keyProvider{s})
	}
	reflection.Register(g)
	return g
}

// contain bounds a call, and turns a panic and an error into a status.
func (s *Server) contain(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (out any, err error) {
	ctx, cancel := context.WithTimeout(ctx, grpcTime)
	defer cancel()
	defer func() {
		if recover() != nil { // the value may hold what the client sent
			s.opts.Log.Error("a call panicked", slog.String("call", info.FullMethod), slog.String("stack", string(debug.Stack())))
			out, err = nil, status.Error(codes.Internal, "the call could not be handled")
		}
	}()
	out, err = h(ctx, req)
	if err == nil {
		return out, nil
	}
	f := failureOf(err)
	s.logRefusal(f, slog.String("call", info.FullMethod))
	return nil, status.Error(grpcCode(f), f.code+": "+f.message)
}

// grpcCode is the gRPC code of a failure.
func grpcCode(f *failure) codes.Code {
	if f.code == codeNoEvidence {
		return codes.FailedPrecondition
	}
	switch f.status {
	case http.StatusBadRequest:
		return codes.InvalidArgument
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusNotFound:
		return codes.NotFound
	case http.StatusServiceUnavailable, http.StatusBadGateway:
		return codes.Unavailable
	case http.StatusGatewayTimeout:
		return codes.DeadlineExceeded
	}
	return codes.Internal
}

// describeService describes the service under a name. Both have all calls.
func describeService(name string) *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: name, HandlerType: (*provider)(nil), Metadata: grpcFile,
		Methods: []grpc.MethodDesc{
			method(name, "WrapKey", provider.WrapKey),
			method(name, "UnWrapKey", provider.UnWrapKey),
			method(name, "GetReport", provider.GetReport),
			method(name, "GetAttestationData", provider.GetAttestationData),
			method(name, "SayHello", provider.SayHello),
		},
	}
}

// method describes one call.
func method[In, Out any](service, name string, call func(provider, context.Context, *In) (*Out, error)) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
		in := new(In)
		if err := decode(in); err != nil {
			return nil, err
		}
		p, ok := srv.(provider)
		if !ok {
			return nil, status.Error(codes.Internal, "the service is none")
		}
		handle := func(ctx context.Context, req any) (any, error) {
			in, ok := req.(*In)
			if !ok {
				return nil, status.Error(codes.Internal, "the request is of another type")
			}
			return call(p, ctx, in)
		}
		if intercept == nil {
			return handle(ctx, in)
		}
		return intercept(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/" + service + "/" + name}, handle)
	}}
}

// GetReport returns a report over the SHA-256 of the text that was sent. Its name says that the text is hexadecimal, and
// clients of the service count on it being hashed as it is.
func (s keyProvider) GetReport(ctx context.Context, in *kp.KeyProviderGetReportInput) (*kp.KeyProviderGetReportOutput, error) {
	r, err := s.opts.Evidence.Raw(ctx, release.ReportData([]byte(in.GetReportDataHexString())))
	if err == nil && r.Type != attest.TypeSEVSNP {
		err = errors.New("the group's evidence is no SNP report")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", release.ErrEvidence, err)
	}
	return &kp.KeyProviderGetReportOutput{ReportHexString: hex.EncodeToString(r.Report)}, nil
}

// GetAttestationData returns what /attest/combined does.
func (s keyProvider) GetAttestationData(ctx context.Context, in *kp.KeyProviderGetAttestationDataInput) (*kp.KeyProviderGetAttestationDataOutput, error) {
	data, err := config.Base64(in.GetB64RuntimeDataString())
	if err != nil {
		return nil, invalid("decoding b64_runtime_data_string: %v", err)
	}
	c, err := s.attestation(ctx, data)
	if err != nil {
		return nil, err
	}
	return &kp.KeyProviderGetAttestationDataOutput{EndorsedTcb: c.TCB, Certs: c.Certificates, AttestationReport: c.Report, UvmReferenceInfo: c.UVM}, nil
}

// SayHello greets.
func (s keyProvider) SayHello(_ context.Context, in *kp.HelloRequest) (*kp.HelloReply, error) {
	return &kp.HelloReply{Message: "Hello " + in.GetName()}, nil
}
