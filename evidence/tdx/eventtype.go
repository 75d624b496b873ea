// SPDX-License-Identifier: Apache-2.0

package tdx

import "fmt"

// EventType says what an event measured. TCG PC Client Platform Firmware Profile, table "Events".
type EventType uint32

// The event types that code asks for by name.
const (
	// EventNoAction marks an event that is not measured.
	EventNoAction EventType = 3
	// EventSeparator ends the firmware's measurements of a register.
	EventSeparator EventType = 4
	// EventTag is data that an operating system measures, such as Linux's command line and initial RAM disk.
	EventTag EventType = 6
	// EventIPL is data that a boot loader measures.
	EventIPL EventType = 0xd
	// EventBootApplication is a program that the firmware started, such as a boot loader or a kernel.
	EventBootApplication EventType = 0x80000003
)

var eventNames = map[EventType]string{
	0:              "EV_PREBOOT_CERT",
	1:              "EV_POST_CODE",
	EventNoAction:  "EV_NO_ACTION",
	EventSeparator: "EV_SEPARATOR",
	5:              "EV_ACTION",
	EventTag:       "EV_EVENT_TAG",
	7:              "EV_S_CRTM_CONTENTS",
	8:              "EV_S_CRTM_VERSION",
	9:              "EV_CPU_MICROCODE",
	0xa:            "EV_PLATFORM_CONFIG_FLAGS",
	0xb:            "EV_TABLE_OF_DEVICES",
	0xc:            "EV_COMPACT_HASH",
	EventIPL:       "EV_IPL",
	0xe:            "EV_IPL_PARTITION_DATA",
	0xf:            "EV_NONHOST_CODE",
	0x10:           "EV_NONHOST_CONFIG",
	0x11:           "EV_NONHOST_INFO",
	0x12:           "EV_OMIT_BOOT_DEVICE_EVENTS",
	0x80000001:     "EV_EFI_VARIABLE_DRIVER_CONFIG",
	0x80000002:     "EV_EFI_VARIABLE_BOOT",

	EventBootApplication: "EV_EFI_BOOT_SERVICES_APPLICATION",

	0x80000004: "EV_EFI_BOOT_SERVICES_DRIVER",
	0x80000005: "EV_EFI_RUNTIME_SERVICES_DRIVER",
	0x80000006: "EV_EFI_GPT_EVENT",
	0x80000007: "EV_EFI_ACTION",
	0x80000008: "EV_EFI_PLATFORM_FIRMWARE_BLOB",
	0x80000009: "EV_EFI_HANDOFF_TABLES",
	0x8000000a: "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
	0x8000000b: "EV_EFI_HANDOFF_TABLES2",
	0x8000000c: "EV_EFI_VARIABLE_BOOT2",
	0x8000000d: "EV_EFI_GPT_EVENT2",
	0x80000010: "EV_EFI_HCRTM_EVENT",
	0x800000e0: "EV_EFI_VARIABLE_AUTHORITY",
	0x800000e1: "EV_EFI_SPDM_FIRMWARE_BLOB",
	0x800000e2: "EV_EFI_SPDM_FIRMWARE_CONFIG",
}

// String returns the name that the specification gives the type.
func (t EventType) String() string {
	if n, ok := eventNames[t]; ok {
		return n
	}
	return fmt.Sprintf("event type %#x", uint32(t))
}
