// SPDX-License-Identifier: Apache-2.0

// Package uvm holds the formats in which the host of an Azure container group says what its utility VM is: the signed
// endorsement of a launch measurement, and the directory of files that a container of the group finds.
//
// An endorsement is a COSE_Sign1 message of one of two forms. The older has the text keys iss, feed and signingtime in
// its header and JSON as its payload; the newer has CWT claims and a hash envelope, whose payload is the measurement, and
// may carry receipts of a transparency ledger.
//
// The package trusts nothing: it parses hostile bytes within limits and names every field. It verifies no signature and
// decides nothing; package verify/uvm does.
package uvm
