// SPDX-License-Identifier: Apache-2.0

package dcap

import (
	"crypto/x509"
	"fmt"
)

// CPUComponents is the number of security versions that a PCK certificate and a TCB level list.
const CPUComponents = 16

// PCK is what the SGX extension of a PCK certificate says of a machine. PCK Certificate and CRL Profile, section "SGX
// Extensions".
type PCK struct {
	// PPID is the ID of the machine's processors.
	PPID [16]byte
	// Components are the security versions of the machine's TCB, in the order of the components in TCB levels.
	Components [CPUComponents]uint8
	// PCESVN is the security version of the provisioning certification enclave.
	PCESVN uint16
	// CPUSVN is the value that reports of this TCB have.
	CPUSVN [16]byte
	// PCEID is the ID of the provisioning certification enclave, in the order of the certificate.
	PCEID [2]byte
	// FMSPC names the kind of platform that TCB information is published for.
	FMSPC [6]byte
	// Type says how the machine protects memory.
	Type SGXType
	// Platform is set in certificates of the Platform CA alone.
	Platform *PCKPlatform
}

// PCKPlatform is what certificates of the Platform CA add: they are for machines that can have several processors.
type PCKPlatform struct {
	// InstanceID is the ID of the platform. It changes when the platform is registered anew.
	InstanceID [16]byte
	// Dynamic says that packages can be added to the platform, or replaced. It is nil where the certificate leaves it open.
	Dynamic *bool
	// CachedKeys says that Intel keeps the platform's root keys. It is nil where the certificate leaves it open.
	CachedKeys *bool
	// SMT says that simultaneous multithreading is on. It is nil where the certificate leaves it open.
	SMT *bool
}

// SGXType says how a machine protects the memory of enclaves.
type SGXType uint8

// The SGX types.
const (
	// SGXStandard encrypts memory and protects its integrity against replay.
	SGXStandard SGXType = 0
	// SGXScalable encrypts memory.
	SGXScalable SGXType = 1
	// SGXScalableIntegrity encrypts memory and protects its integrity.
	SGXScalableIntegrity SGXType = 2
)

// String returns the type's name.
func (t SGXType) String() string {
	switch t {
	case SGXStandard:
		return "standard"
	case SGXScalable:
		return "scalable"
	case SGXScalableIntegrity:
		return "scalable with integrity"
	}
	return fmt.Sprintf("reserved(%d)", uint8(t))
}

// PCKAuthority names one of the two CAs that issue PCK certificates, as Intel's services name them.
type PCKAuthority string

// The issuers of PCK certificates.
const (
	// PCKProcessorCA issues for machines of one processor.
	PCKProcessorCA PCKAuthority = "processor"
	// PCKPlatformCA issues for machines that can have several.
	PCKPlatformCA PCKAuthority = "platform"
)

// Authority returns the CA that a PCK certificate names as its issuer, or an error if it names neither. It proves nothing
// before the certificate is verified.
func Authority(cert *x509.Certificate) (PCKAuthority, error) {
	switch cert.Issuer.CommonName {
	case "Intel SGX PCK Processor CA":
		return PCKProcessorCA, nil
	case "Intel SGX PCK Platform CA":
		return PCKPlatformCA, nil
	}
	return "", fmt.Errorf("reading PCK issuer: it is %q, neither the Processor CA nor the Platform CA", cert.Issuer.CommonName)
}
