// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	oraclepcs "github.com/google/go-tdx-guest/pcs"
	oracle "github.com/google/go-tdx-guest/verify"
	"github.com/google/logger"
	"pgregory.net/rapid"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence/dcap"
	"cofferdam.dev/evidence/pcs"
	"cofferdam.dev/verify/anchor"
)

// TestMain keeps the oracle quiet: it warns at every call.
func TestMain(m *testing.M) {
	logger.Init("oracle", false, false, io.Discard)
	os.Exit(m.Run())
}

// oracleRootCRL is where Intel's root says that its revocation list is.
const oracleRootCRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"

// served answers the oracle's requests with our collateral, as Intel's service would.
type served struct {
	items collateral.Embedded
	quote []byte
}

func (s served) Get(u string) (map[string][]string, []byte, error) {
	parsed, err := url.Parse(u)
	if err != nil {
		return nil, nil, err
	}
	q, header := parsed.Query(), ""
	var r collateral.Request
	switch {
	case u == oracleRootCRL:
		r = collateral.RootCRL()
	case strings.HasSuffix(parsed.Path, "/pckcrl"):
		r, header = collateral.PCKCRL(q.Get("ca")), oraclepcs.SgxPckCrlIssuerChainPhrase
	case strings.HasSuffix(parsed.Path, "/tdx/certification/v4/tcb"):
		r.Kind, header = collateral.IntelTCBInfo, oraclepcs.TcbInfoIssuerChainPhrase
		for name := range s.items {
			if strings.HasSuffix(name, "/"+strings.ToLower(q.Get("fmspc"))) {
				r, err = collateral.ParseName(name)
			}
		}
	case strings.HasSuffix(parsed.Path, "/tdx/certification/v4/qe/identity"):
		r, header = collateral.QEIdentity(collateral.TDX), oraclepcs.SgxQeIdentityIssuerChainPhrase
	}
	if err != nil {
		return nil, nil, err
	}
	item, err := s.items.Get(context.Background(), r)
	if err != nil {
		return nil, nil, err
	}
	chain := item.IssuerChain
	if r.Kind == collateral.IntelPCKCRL {
		quote, err := dcap.ParseQuote(s.quote)
		if err != nil {
			return nil, nil, err
		}
		certs := strings.SplitAfter(string(quote.CertificationData), "-----END CERTIFICATE-----\n")
		chain = []byte(strings.TrimSuffix(strings.Join(certs[1:], ""), "\x00"))
	}
	return map[string][]string{header: {url.QueryEscape(string(chain))}}, item.Body, nil
}

// askOracle lets the other implementation verify the same input, with all that it can be asked for.
func askOracle(in Input) error {
	items, ok := in.Collateral.(collateral.Embedded)
	if !ok {
		return fmt.Errorf("collateral is a %T", in.Collateral)
	}
	roots := x509.NewCertPool()
	for _, r := range in.Roots {
		roots.AddCert(r.Certificate)
	}
	return oracle.RawTdxQuote(in.Quote, &oracle.Options{
		CheckRevocations: true, GetCollateral: true, Getter: served{items, in.Quote}, TrustedRoots: roots,
		Now: &oracle.TimeSet{PckCertChain: in.Now, TcbInfo: in.Now, QeIdentity: in.Now, PckCrl: in.Now, RootCaCrl: in.Now},
	})
}

// TestOracleOnVectors compares the verdicts about all TD quotes, where ours asks for nothing that the other does not know.
func TestOracleOnVectors(t *testing.T) {
	t.Parallel()
	n := 0
	for _, v := range vectors {
		if v.tee != dcap.TEETDX {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			in, p := v.input(t), lenient()
			in.EventLog = nil
			p.TDX.AllowDebug, p.AllowTrailingData = true, true
			p.TDX.AllowedAttributes, p.TDX.RequiredAttributes = p.TDX.AllowedAttributes|p.TDX.RequiredAttributes, 0
			_, outcome, codes := judge(t, in, p)
			err := askOracle(in)
			if (err == nil) != (outcome == "accepted") {
				t.Errorf("ours: %s %v; theirs: %v", outcome, codes, err)
			}
		})
		n++
	}
	if n < 8 {
		t.Errorf("only %d quotes were compared", n)
	}
}

// TestOracleOnMachines compares the verdicts about machines of all ages. The other one looks at the TDX module's level
// alone when there is one, and so must never be the stricter.
func TestOracleOnMachines(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, td)
		w.quote.Header.Version, w.quote.TD.V15 = dcap.Version4, nil
		pick := func(name string, of ...int) int { return rapid.SampledFrom(of).Draw(rt, name) }
		svn := [16]byte{byte(pick("module", 1, 2, 3, 4, 4, 4)), byte(pick("major", 0, 1, 1)), byte(pick("loader", 1, 2, 3, 3, 3, 3))}
		w.quote.TD.TEETCBSVN = svn
		w.machine.Components[0] = uint8(pick("component", 3, 4, 5, 5, 5, 5))
		w.machine.PCESVN = uint16(pick("PCESVN", 10, 12, 13, 13, 13, 13))
		w.quote.QEReport.ISVSVN = uint16(pick("QE", 2, 3, 5, 5, 5, 5))
		if rapid.IntRange(0, 9).Draw(rt, "revoked") == 0 {
			w.pckRevoked = append(w.pckRevoked, w.pck.cert.SerialNumber)
		}
		w.renewPCK()
		if rapid.IntRange(0, 9).Draw(rt, "late") == 0 {
			w.listUntil = w.now.Add(-time.Hour)
		}
		in := w.input()
		res, outcome, codes := judge(t, in, strict())
		err := askOracle(in)
		ours, theirs := outcome == "accepted", err == nil
		hidden := svn[1] > 0 && res.TCB.Platform != nil && res.TCB.Platform.Status != pcs.UpToDate
		if ours && !theirs || theirs && !ours && !hidden {
			rt.Fatalf("ours: %s %v; theirs: %v", outcome, codes, err)
		}
	})
}

// TestOracleOnDamage: what ours accepts of a damaged quote, which is nothing, the other one would have to accept, too; and
// what the other accepts and ours refuses is named.
func TestOracleOnDamage(t *testing.T) {
	t.Parallel()
	v := vectors[0]
	in, p := v.input(t), lenient()
	in.Cache = NewCache(anchor.NewCache(anchor.DefaultCacheSize))
	var more []int
	size, step := quoteSize(t, v), 37
	if testing.Short() {
		step = 307
	}
	for i := 0; i < size; i += step {
		damaged := in
		damaged.Quote = slices.Clone(in.Quote[:size])
		damaged.Quote[i] ^= 1
		_, outcome, codes := judge(t, damaged, p)
		err := askOracle(damaged)
		switch {
		case outcome == "accepted" && err != nil:
			t.Errorf("byte %d: accepted by ours, refused by theirs: %v", i, err)
		case outcome != "accepted" && err == nil:
			more = append(more, i)
			if !slices.Contains(codes, "certification-data=CERTIFICATE_MALFORMED") {
				t.Errorf("byte %d: accepted by theirs, refused by ours: %v", i, codes)
			}
		}
	}
	t.Logf("accepted by theirs alone, for the spelling of certificates: %v", more)
}
