// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"encoding/json"
	"strconv"

	"cofferdam.dev/internal/strictjson"
)

// metadata is the JSON of a header (LUKS2 On-Disk Format Specification section 3), as far as it is accepted.
type metadata struct {
	Keyslots map[int]keyslot `json:"keyslots"`
	Tokens   map[int]token   `json:"tokens"`
	Segments map[int]segment `json:"segments"`
	Digests  map[int]digest  `json:"digests"`
	Config   config          `json:"config"`
}

type keyslot struct {
	Type     string   `json:"type"`
	KeySize  int      `json:"key_size"`
	Priority *int     `json:"priority,omitempty"`
	AF       splitter `json:"af"`
	Area     area     `json:"area"`
	KDF      kdf      `json:"kdf"`
}

// priority is 0 for a slot that is tried only when it is named, 1 for others, 2 for those to try first.
func (k keyslot) priority() int {
	if k.Priority == nil {
		return 1
	}
	return *k.Priority
}

// splitter is the anti-forensic splitter of section 2.3.
type splitter struct {
	Type    string `json:"type"`
	Stripes int    `json:"stripes"`
	Hash    string `json:"hash"`
}

type area struct {
	Type       string  `json:"type"`
	Offset     decimal `json:"offset"`
	Size       decimal `json:"size"`
	Encryption string  `json:"encryption"`
	KeySize    int     `json:"key_size"`
}

// end is the offset of the first byte behind the area.
func (a area) end() int64 { return int64(a.Offset + a.Size) }

// kdf has hash and iterations for PBKDF2, and the rest for Argon2.
type kdf struct {
	Type       string `json:"type"`
	Hash       string `json:"hash,omitempty"`
	Iterations int    `json:"iterations,omitempty"`
	Time       int    `json:"time,omitempty"`
	Memory     int    `json:"memory,omitempty"` // in KiB
	CPUs       int    `json:"cpus,omitempty"`
	Salt       []byte `json:"salt"`
}

// token is kept as it is found: nothing here acts on one. Only its list of key slots is followed.
type token struct {
	fields   strictjson.Object
	keyslots []int
}

func (t token) MarshalJSON() ([]byte, error) {
	list, err := json.Marshal(texts(t.keyslots))
	if err != nil {
		return nil, err
	}
	all := map[string]json.RawMessage{}
	for k, v := range t.fields {
		all[k] = v
	}
	all["keyslots"] = list
	return json.Marshal(all)
}

type segment struct {
	Type       string  `json:"type"`
	Offset     decimal `json:"offset"`
	Size       extent  `json:"size"`
	IVTweak    decimal `json:"iv_tweak"`
	Encryption string  `json:"encryption"`
	SectorSize int     `json:"sector_size"`
}

type digest struct {
	Type       string `json:"type"`
	Keyslots   idList `json:"keyslots"`
	Segments   idList `json:"segments"`
	Hash       string `json:"hash"`
	Iterations int    `json:"iterations"`
	Salt       []byte `json:"salt"`
	Digest     []byte `json:"digest"`
}

type config struct {
	JSONSize     decimal       `json:"json_size"`
	KeyslotsSize decimal       `json:"keyslots_size"`
	Flags        []string      `json:"flags,omitempty"`
	Requirements *requirements `json:"requirements,omitempty"`
}

type requirements struct {
	Mandatory []string `json:"mandatory"`
}

// decimal is a number that the format writes as a string.
type decimal int64

func (d decimal) MarshalJSON() ([]byte, error) {
	return json.Marshal(strconv.FormatInt(int64(d), 10))
}

// extent is the size of the data; zero is "dynamic", all that follows.
type extent int64

func (e extent) MarshalJSON() ([]byte, error) {
	if e == 0 {
		return json.Marshal(dynamic)
	}
	return decimal(e).MarshalJSON()
}

const dynamic = "dynamic"

// idList is a list of numbers that the format writes as strings.
type idList []int

func (l idList) MarshalJSON() ([]byte, error) { return json.Marshal(texts(l)) }

func texts(ids []int) []string {
	list := make([]string, 0, len(ids))
	for _, id := range ids {
		list = append(list, strconv.Itoa(id))
	}
	return list
}
