// SPDX-License-Identifier: Apache-2.0

package network

import (
	"encoding/binary"
	"net/netip"
	"strings"
)

// HostName is the name by which the group finds the host's services, if it may reach any: it has the gateway's address.
const HostName = "host.cofferdam.internal"

// The parts of a DNS message that are needed to answer one question (RFC 1035, section 4.1).
const (
	dnsHeader     = 12
	dnsMaxName    = 255
	dnsTypeA      = 1
	dnsClassIN    = 1
	dnsAnswerTTL  = 60
	dnsNoSuchName = 3 // RCODE, "name error"
	dnsRefused    = 5
	dnsResponse   = 0x80 // QR, in the first byte of the flags
	dnsRecurse    = 0x01 // RD, likewise
	dnsCanRecurse = 0x80 // RA, in the second byte
	dnsFirstName  = 0xc000 | dnsHeader
)

// names answers what the host's resolver does not get to see.
type names struct {
	host    bool // HostName exists
	outside bool // the resolver answers everything else
}

// answer says whether a datagram is ours, and returns the reply to it; all others are the resolver's. What is no query of one
// question gets no reply of ours, and where nothing goes to the resolver, it does not get there either.
func (s names) answer(query []byte) (answer []byte, ours bool) {
	name, kind, end, ok := question(query)
	switch {
	case !ok:
		return nil, !s.outside
	case name != HostName && s.outside:
		return nil, false
	case name != HostName:
		return reply(query, end, dnsRefused, netip.Addr{}), true
	case !s.host:
		return reply(query, end, dnsNoSuchName, netip.Addr{}), true
	case kind == dnsTypeA:
		return reply(query, end, 0, netip.MustParseAddr(GatewayIP)), true
	}
	return reply(query, end, 0, netip.Addr{}), true // the name exists, and has no such record
}

// question reads the only question of a query: its name in lower case and without the final dot, its type, and where
// it ends.
func question(q []byte) (name string, kind uint16, end int, ok bool) {
	if len(q) < dnsHeader || q[2]&^dnsRecurse != 0 || binary.BigEndian.Uint16(q[4:]) != 1 {
		return "", 0, 0, false // a response, an operation other than a query, or not one question
	}
	var labels []string
	at := dnsHeader
	for at < len(q) && q[at] != 0 {
		size := int(q[at])
		if size > 63 || at+1+size >= len(q) || at-dnsHeader > dnsMaxName {
			return "", 0, 0, false // a question has no pointers
		}
		labels = append(labels, string(q[at+1:at+1+size]))
		at += 1 + size
	}
	at++
	if at+4 > len(q) || binary.BigEndian.Uint16(q[at+2:]) != dnsClassIN {
		return "", 0, 0, false
	}
	return strings.ToLower(strings.Join(labels, ".")), binary.BigEndian.Uint16(q[at:]), at + 4, true
}

// reply repeats the question that ends at end, with a code, and with an address if there is one.
func reply(query []byte, end int, code byte, addr netip.Addr) []byte {
	r := append([]byte(nil), query[:end]...)
	r[2] = dnsResponse | query[2]&dnsRecurse
	r[3] = dnsCanRecurse | code
	clear(r[6:dnsHeader]) // no records
	if !addr.IsValid() {
		return r
	}
	binary.BigEndian.PutUint16(r[6:], 1)
	r = binary.BigEndian.AppendUint16(r, dnsFirstName)
	r = binary.BigEndian.AppendUint16(r, dnsTypeA)
	r = binary.BigEndian.AppendUint16(r, dnsClassIN)
	r = binary.BigEndian.AppendUint32(r, dnsAnswerTTL)
	r = binary.BigEndian.AppendUint16(r, 4)
	return append(r, addr.AsSlice()...)
}
