// SPDX-License-Identifier: Apache-2.0

package skr

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containers/ocicrypt/config"
	kpconfig "github.com/containers/ocicrypt/config/keyprovider-config"
	"github.com/containers/ocicrypt/keywrap/keyprovider"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	reflectpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	kp "cofferdam.dev/api/keyprovider/v1"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/vault/wrap"
	"cofferdam.dev/release"
)

// listen serves gRPC, and returns its address and a connection.
func listen(t testing.TB, s *Server) (string, *grpc.ClientConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := NewGRPC(s)
	done := make(chan error, 1)
	go func() { done <- g.Serve(l) }()
	c, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		g.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String(), c
}

// keyDirectory has the public half of the world's key rsa, and what says where the private half is.
func keyDirectory(t testing.TB) string {
	t.Helper()
	w, dir := theWorld(t), t.TempDir()
	der, err := x509.MarshalPKIXPublicKey(&w.rsaKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	info, err := json.Marshal(map[string]string{"public_key_path": "rsa.pem", "kms_endpoint": w.vaultServer.URL, "attester_endpoint": w.attestation.URL})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"rsa.pem": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "rsa-info.json": info, "odd-info.json": []byte("{}")} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// identified is a sidecar that has an identity, as requests to the key provider bring no access token.
func identified(t testing.TB) *Server {
	return theWorld(t).sidecar(t, func(o *Options, c *release.Options) {
		o.KeyDirectory = keyDirectory(t)
		c.Credential = identity("releaser")
	})
}

// TestOCICrypt wraps and unwraps a layer's key with the library that container runtimes use.
func TestOCICrypt(t *testing.T) {
	t.Parallel()
	address, _ := listen(t, identified(t))
	k := keyprovider.NewKeyWrapper(agentParameter, kpconfig.KeyProviderAttrs{Grpc: address})
	for _, agent := range []string{"skr:rsa", "AASP:rsa"} {
		note, err := k.WrapKeys(&config.EncryptConfig{Parameters: map[string][][]byte{agentParameter: {[]byte(agent)}}}, []byte("the layer's key"))
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(agent, ":")
		for _, p := range []map[string][][]byte{{agentParameter: {[]byte(name)}}, nil} {
			got, err := k.UnwrapKey(&config.DecryptConfig{Parameters: p}, note)
			if err != nil || string(got) != "the layer's key" {
				t.Errorf("%v: %q, %v", p, got, err)
			}
		}
	}
}

// TestKeyProvider calls every method under both names of the service.
func TestKeyProvider(t *testing.T) {
	t.Parallel()
	_, c := listen(t, identified(t))
	for _, service := range []string{ServiceName, OCICryptName} {
		hello := &kp.HelloReply{}
		if err := c.Invoke(t.Context(), "/"+service+"/SayHello", &kp.HelloRequest{Name: "you"}, hello); err != nil || hello.GetMessage() != "Hello you" {
			t.Errorf("%s: %v, %v", service, hello, err)
		}
		// The text is hashed as it is, hexadecimal or not.
		report := &kp.KeyProviderGetReportOutput{}
		if err := c.Invoke(t.Context(), "/"+service+"/GetReport", &kp.KeyProviderGetReportInput{ReportDataHexString: "0a"}, report); err != nil {
			t.Fatal(err)
		}
		b, err := hex.DecodeString(report.GetReportHexString())
		if err != nil {
			t.Fatal(err)
		}
		r, err := snp.ParseReport(b)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256([]byte("0a")); string(r.ReportData[:32]) != string(sum[:]) {
			t.Errorf("%s: report data %x", service, r.ReportData)
		}
		data := &kp.KeyProviderGetAttestationDataOutput{}
		if err := c.Invoke(t.Context(), "/"+service+"/GetAttestationData", &kp.KeyProviderGetAttestationDataInput{B64RuntimeDataString: "AAAA"}, data); err != nil {
			t.Fatal(err)
		}
		if b, err = base64.StdEncoding.DecodeString(data.GetAttestationReport()); err != nil || len(b) != 1184 || len(data.GetEndorsedTcb()) != 16 || data.GetCerts() == "" {
			t.Errorf("%s: %v, %v", service, data, err)
		}
	}
	stream, err := reflectpb.NewServerReflectionClient(c).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err = stream.Send(&reflectpb.ServerReflectionRequest{MessageRequest: &reflectpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: ServiceName}}); err != nil {
		t.Fatal(err)
	}
	if a, err := stream.Recv(); err != nil || len(a.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
		t.Errorf("reflection: %v, %v", a, err)
	}
}

// TestKeyProviderErrors says what is wrong, without what was sent.
func TestKeyProviderErrors(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	_, c := listen(t, identified(t))
	_, bare := listen(t, w.sidecar(t, nil))
	note := func(change func(map[string]any)) map[string]any {
		m := map[string]any{"kid": "rsa", "wrapped_data": []byte("hush-hush"), "wrap_type": wrapType, "kms_endpoint": w.vaultServer.URL, "attester_endpoint": w.attestation.URL}
		if change != nil {
			change(m)
		}
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return map[string]any{"op": "keyunwrap", "keyunwrapparams": map[string]any{"annotation": b}}
	}
	encrypt := func(p string) map[string]any {
		return map[string]any{"op": "keywrap", "keywrapparams": map[string]any{"optsdata": []byte("hush-hush"), "ec": map[string]any{"Parameters": map[string]any{agentParameter: [][]byte{[]byte(p)}}}}}
	}
	set := func(name string, v any) func(map[string]any) { return func(m map[string]any) { m[name] = v } }
	for name, x := range map[string]struct {
		c      *grpc.ClientConn
		method string
		in     any
		code   codes.Code
		text   string
	}{
		"no JSON":           {c, "UnWrapKey", "hush-hush", codes.InvalidArgument, "no JSON"},
		"other operation":   {c, "UnWrapKey", encrypt("skr:rsa"), codes.InvalidArgument, "not keyunwrap"},
		"other operation 2": {c, "WrapKey", note(nil), codes.InvalidArgument, "not keywrap"},
		"no annotation":     {c, "UnWrapKey", map[string]any{}, codes.InvalidArgument, "annotation"},
		"nothing in it":     {c, "UnWrapKey", note(func(m map[string]any) { clear(m) }), codes.InvalidArgument, "kid, wrapped_data, kms_endpoint, attester_endpoint"},
		"other wrapping":    {c, "UnWrapKey", note(set("wrap_type", "ec")), codes.InvalidArgument, "wrap_type"},
		"other agent": {c, "UnWrapKey", map[string]any{"keyunwrapparams": map[string]any{
			"dc": map[string]any{"Parameters": map[string]any{agentParameter: [][]byte{[]byte("other")}}}}}, codes.InvalidArgument, "attestation agent"},
		"key name":         {c, "UnWrapKey", note(set("kid", "a b")), codes.InvalidArgument, "letters"},
		"no such key":      {c, "UnWrapKey", note(set("kid", "absent")), codes.NotFound, "KeyNotFound"},
		"policy":           {c, "UnWrapKey", note(set("kid", "foreign")), codes.PermissionDenied, "AccessDenied"},
		"no identity":      {bare, "UnWrapKey", note(nil), codes.Unauthenticated, "Unauthorized"},
		"nobody there":     {c, "UnWrapKey", note(set("attester_endpoint", "127.0.0.1:1")), codes.Unavailable, "attestation service"},
		"something else":   {c, "UnWrapKey", note(nil), codes.PermissionDenied, "can not be opened"},
		"symmetric":        {c, "UnWrapKey", note(set("kid", "oct")), codes.InvalidArgument, "RSA key"},
		"no parameters":    {c, "WrapKey", map[string]any{}, codes.InvalidArgument, agentParameter},
		"no key":           {c, "WrapKey", encrypt("skr"), codes.InvalidArgument, "skr:KEY"},
		"agent":            {c, "WrapKey", encrypt("kms:rsa"), codes.InvalidArgument, "skr:KEY"},
		"unknown key":      {c, "WrapKey", encrypt("skr:absent"), codes.NotFound, "no such key"},
		"outside":          {c, "WrapKey", encrypt("skr:../rsa"), codes.NotFound, "no such key"},
		"incomplete":       {c, "WrapKey", encrypt("skr:odd"), codes.Internal, ""},
		"no directory":     {bare, "WrapKey", encrypt("skr:rsa"), codes.PermissionDenied, "without a directory"},
		"nothing to wrap":  {c, "WrapKey", map[string]any{"keywrapparams": map[string]any{"ec": map[string]any{"Parameters": map[string]any{agentParameter: [][]byte{[]byte("skr:rsa")}}}}}, codes.InvalidArgument, "optsdata"},
		"runtime data":     {c, "GetAttestationData", "***", codes.InvalidArgument, "b64_runtime_data_string"},
		"there is no such": {c, "Nothing", nil, codes.Unimplemented, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, ok := x.in.(string)
			if !ok {
				b, err := json.Marshal(x.in)
				if err != nil {
					t.Fatal(err)
				}
				text = string(b)
			}
			// All requests have one field of bytes or text.
			err := x.c.Invoke(t.Context(), "/"+OCICryptName+"/"+x.method, &kp.KeyProviderKeyWrapProtocolInput{KeyProviderKeyWrapProtocolInput: []byte(text)}, &kp.HelloReply{})
			s := status.Convert(err)
			if s.Code() != x.code || !strings.Contains(s.Message(), x.text) {
				t.Errorf("%v %q; want %v %q", s.Code(), s.Message(), x.code, x.text)
			}
			if strings.Contains(s.Message(), "hush") || strings.Contains(s.Message(), base64.StdEncoding.EncodeToString([]byte("hush-hush"))) {
				t.Errorf("the error has what was sent: %s", s.Message())
			}
		})
	}
}

// TestUnwrap opens what was wrapped in every format, given in the request or kept in a vault.
func TestUnwrap(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	s := identified(t)
	secret := map[string]string{"akv_endpoint": w.vaultServer.URL, "name": "wrapped"}
	padded, err := wrap.SealPadded(w.oct, []byte("a wrapped secret"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path string
		body any
	}{
		"secret":     {"/unwrap", with(w.asks("rsa"), "secret", secret)},
		"symmetric":  {"/unwrap", w.asks("oct", "wrapped", b64(padded), "format", formatKWP)},
		"clean room": {"/secrets/unwrap", map[string]any{"clientId": "c", "tenantId": "t", "kid": "wrapped", "akvEndpoint": w.vaultServer.URL, "kek": map[string]string{"kid": "rsa", "akvEndpoint": w.vaultServer.URL, "maaEndpoint": w.attestation.URL}}},
		"a release":  {"/unwrap", w.asks("rsa", "wrapped", sealed(t, wrap.RSAAESKeyWrap384), "format", string(wrap.RSAAESKeyWrap384))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if a := call(t, s, c.path, c.body); a.text("value") != b64([]byte("a wrapped secret")) || len(a.body) != 1 {
				t.Error(a)
			}
		})
	}
}

func sealed(t testing.TB, e wrap.Enc) string {
	t.Helper()
	b, err := wrap.SealRSA(e, &theWorld(t).rsaKey.PublicKey, []byte("a wrapped secret"))
	if err != nil {
		t.Fatal(err)
	}
	return b64(b)
}
