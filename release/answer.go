// SPDX-License-Identifier: Apache-2.0

package release

import (
	"crypto/subtle"
	"crypto/x509"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"cofferdam.dev/internal/strictjson"
)

// algorithms are those that vaults sign answers with. There is no "none".
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384}

// expected is what an answer has to be an answer to.
type expected struct {
	// vault is the vault's endpoint, and kind and name what was asked for.
	vault *url.URL
	kind  objectKind
	name  KeyName
	// enc and nonce were in the request.
	enc, nonce string
	// roots are the authorities of the vault's certificate; nil are the system's.
	roots *x509.CertPool
	now   time.Time
}

// objectKind says what of a vault is released, as paths name it.
type objectKind string

const (
	keyKind    objectKind = "keys"
	secretKind objectKind = "secrets"
)

// envelope is the payload of an answer. Members that are not needed are left alone.
type envelope struct {
	Request struct {
		Enc   string `json:"enc"`
		Kid   string `json:"kid"`
		Nonce string `json:"nonce"`
	} `json:"request"`
	Response struct {
		Key struct {
			Key described `json:"key"`
		} `json:"key"`
		Secret struct {
			Secret describedSecret `json:"secret"`
		} `json:"secret"`
	} `json:"response"`
}

// sealedObject is the member key_hsm or value_hsm, decoded.
type sealedObject struct {
	Header struct {
		Alg string `json:"alg"`
		Enc string `json:"enc"`
	} `json:"header"`
	Ciphertext string `json:"ciphertext"`
}

// verifyAnswer returns what an answer says and the ciphertext in it, once the answer is the vault's and to this request.
func verifyAnswer(compact string, want *expected) (*envelope, []byte, error) {
	payload, err := verifySignature(compact, want)
	if err != nil {
		return nil, nil, err
	}
	if _, err = strictjson.Parse(payload); err != nil {
		return nil, nil, wrong("its payload: %v", err)
	}
	var e envelope
	if err = json.Unmarshal(payload, &e); err != nil {
		return nil, nil, wrong("its payload has another form")
	}
	id, value := e.Response.Key.Key.ID, e.Response.Key.Key.Value
	if want.kind == secretKind {
		id, value = e.Response.Secret.Secret.ID, e.Response.Secret.Secret.Value
	}
	switch {
	case e.Request.Enc != want.enc:
		return nil, nil, wrong("it is for the format %q, not %s", clean(e.Request.Enc), want.enc)
	case subtle.ConstantTimeCompare([]byte(e.Request.Nonce), []byte(want.nonce)) != 1:
		return nil, nil, wrong("it is to another request: the nonce differs")
	case !want.names(id):
		return nil, nil, wrong("it is about %q, not %s/%s of %s", clean(id), want.kind, want.name, want.vault.Host)
	}
	ciphertext, err := openEnvelope(value, want.enc)
	return &e, ciphertext, err
}

// openEnvelope takes the ciphertext out of key_hsm or value_hsm.
func openEnvelope(value, format string) ([]byte, error) {
	b, err := compactBase64(value)
	if err != nil {
		return nil, wrong("what is wrapped is no base64url")
	}
	if _, err = strictjson.Parse(b); err != nil {
		return nil, wrong("what is wrapped: %v", err)
	}
	var sealed sealedObject
	if json.Unmarshal(b, &sealed) != nil || sealed.Header.Alg != "dir" || sealed.Header.Enc != format {
		return nil, wrong("what is wrapped is of another format than %s", format)
	}
	ciphertext, err := compactBase64(sealed.Ciphertext)
	if err != nil {
		return nil, wrong("the ciphertext is no base64url")
	}
	return ciphertext, nil
}

// verifySignature checks that the answer is signed by a certificate for the vault's name that leads to one of the roots.
func verifySignature(compact string, want *expected) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(compact, algorithms)
	if err != nil {
		return nil, wrong("it is no signed object")
	}
	// Vaults sign with a certificate that was made for serving TLS, or for anything.
	chains, err := jws.Signatures[0].Protected.Certificates(x509.VerifyOptions{
		DNSName: bracketed(want.vault.Hostname()), Roots: want.roots, CurrentTime: want.now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, wrong("its certificate is not one of %s: %v", want.vault.Hostname(), err)
	}
	payload, err := jws.Verify(chains[0][0].PublicKey)
	if err != nil {
		return nil, wrong("its signature does not verify")
	}
	return payload, nil
}

// bracketed is how crypto/x509 wants an IPv6 address as a name.
func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// names reports whether an object's URL is the one that was asked for. A version must be there, and be the one that was asked
// for, if any.
func (e *expected) names(id string) bool {
	u, err := url.Parse(id)
	if err != nil || !strings.EqualFold(u.Hostname(), e.vault.Hostname()) {
		return false
	}
	rest, ok := strings.CutPrefix(u.Path, e.vault.Path+"/"+string(e.kind)+"/")
	name, v, has := strings.Cut(rest, "/")
	return ok && has && strings.EqualFold(name, e.name.Name) && version.MatchString(v) &&
		(e.name.Version == "" || strings.EqualFold(v, e.name.Version))
}
