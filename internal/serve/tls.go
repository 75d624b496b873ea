// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"cofferdam.dev/internal/wholefile"
)

// TLSFiles returns a configuration with the certificate chain and key in two PEM files, which are read again when they
// change. Client certificates are asked for and verified when clientCA names a PEM file; a client may still have none.
func TLSFiles(certFile, keyFile, clientCA string) (*tls.Config, error) {
	f := &certFiles{cert: certFile, key: keyFile}
	if _, err := f.get(nil); err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: f.get}
	return c, AskClients(c, clientCA)
}

// AskClients has clients asked for certificates by the authorities in a PEM file, when one is named. A client may still have
// none.
func AskClients(c *tls.Config, clientCA string) error {
	if clientCA == "" {
		return nil
	}
	b, err := os.ReadFile(clientCA)
	if err != nil {
		return fmt.Errorf("reading the CA of client certificates: %w", err)
	}
	c.ClientCAs = x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(b) {
		return fmt.Errorf("reading the CA of client certificates: %s holds no certificate in PEM", clientCA)
	}
	c.ClientAuth = tls.VerifyClientCertIfGiven
	return nil
}

// recheck is how often the files of a certificate are looked at.
const recheck = 10 * time.Second

// certFiles is a certificate in files. A change that can not be read is ignored until it can.
type certFiles struct {
	cert, key string

	mu      sync.Mutex
	current *tls.Certificate
	changed time.Time
	looked  time.Time
}

func (f *certFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.current != nil && time.Since(f.looked) < recheck {
		return f.current, nil
	}
	f.looked = time.Now()
	changed, err := f.modified()
	if err == nil && f.current != nil && changed.Equal(f.changed) {
		return f.current, nil
	}
	var c tls.Certificate
	if err == nil {
		c, err = tls.LoadX509KeyPair(f.cert, f.key)
	}
	if now := time.Now(); err == nil && c.Leaf != nil && now.After(c.Leaf.NotAfter) {
		err = fmt.Errorf("%s expired at %s", f.cert, c.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if err != nil {
		if f.current != nil {
			return f.current, nil
		}
		return nil, fmt.Errorf("reading the server's certificate: %w", err)
	}
	f.current, f.changed = &c, changed
	return f.current, nil
}

func (f *certFiles) modified() (time.Time, error) {
	var last time.Time
	for _, name := range []string{f.cert, f.key} {
		info, err := os.Stat(name)
		if err != nil {
			return last, err
		}
		if info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	return last, nil
}

// developmentLife is how long the certificate of DevelopmentTLS is valid.
const developmentLife = 90 * 24 * time.Hour

// DevelopmentTLS returns a configuration with a self-signed certificate for the names, made at each call, whose
// certificate is written to path in PEM for clients to trust. It is for development: nobody vouches for it.
func DevelopmentTLS(path string, names []string) (*tls.Config, error) {
	c, err := selfSigned(names)
	if err != nil {
		return nil, fmt.Errorf("making a certificate for development: %w", err)
	}
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
	err = os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = wholefile.Replace(path, b, 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("making a certificate for development: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*c}}, nil
}

func selfSigned(names []string) (*tls.Certificate, error) {
	if len(names) == 0 {
		return nil, errors.New("there is no name to certify")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: names[0], Organization: []string{"cofferdam development"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(developmentLife), BasicConstraintsValid: true, IsCA: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
