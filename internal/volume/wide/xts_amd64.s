// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// How far the tweaks of a register's four blocks are from its first one: multiplied by 1, x, x² and x³.
DATA up<>+0(SB)/8, $0
DATA up<>+8(SB)/8, $0
DATA up<>+16(SB)/8, $1
DATA up<>+24(SB)/8, $1
DATA up<>+32(SB)/8, $2
DATA up<>+40(SB)/8, $2
DATA up<>+48(SB)/8, $3
DATA up<>+56(SB)/8, $3
GLOBL up<>(SB), RODATA|NOPTR, $64

DATA down<>+0(SB)/8, $64
DATA down<>+8(SB)/8, $64
DATA down<>+16(SB)/8, $63
DATA down<>+24(SB)/8, $63
DATA down<>+32(SB)/8, $62
DATA down<>+40(SB)/8, $62
DATA down<>+48(SB)/8, $61
DATA down<>+56(SB)/8, $61
GLOBL down<>(SB), RODATA|NOPTR, $64

// Z0 … Z7   32 blocks, four in each
// Z8 … Z15  their tweaks
// Z16 … Z30 the round keys, each four times
// Z31       x⁷+x²+x+1, which x¹²⁸ is

// CARRY adds to T, whose halves were shifted, what C has of the bits that were shifted out of them: those of the low half
// belong to the high half, those of the high half are reduced.
#define CARRY(T, C, R) \
	VPCLMULQDQ $1, Z31, C, R       \
	VPSLLDQ    $8, C, C            \
	VPTERNLOGQ $0x96, C, R, T

// TIMES makes T the product of S and a power of x, up to the 32nd.
#define TIMES(n, S, T, C, R) \
	VPSRLQ $(64-n), S, C           \
	VPSLLQ $n, S, T                \
	CARRY(T, C, R)

#define LOAD(at, T, B) \
	VMOVDQU64  at(SI), B           \
	VPTERNLOGQ $0x96, Z16, T, B

#define STORE(at, T, B) \
	VPXORQ    T, B, B              \
	VMOVDQU64 B, at(DI)

#define ROUND(OP, K) \
	OP K, Z0, Z0 \
	OP K, Z1, Z1 \
	OP K, Z2, Z2 \
	OP K, Z3, Z3 \
	OP K, Z4, Z4 \
	OP K, Z5, Z5 \
	OP K, Z6, Z6 \
	OP K, Z7, Z7

// UNITS is the body of both functions: OP is a round, LAST the last one.
#define UNITS(OP, LAST) \
	MOVQ keys+0(FP), AX                \
	MOVQ dst+8(FP), DI                 \
	MOVQ src+16(FP), SI                \
	MOVQ tweak+24(FP), BX              \
	MOVQ units+32(FP), CX              \
	VBROADCASTI32X4 0(AX), Z16         \
	VBROADCASTI32X4 16(AX), Z17        \
	VBROADCASTI32X4 32(AX), Z18        \
	VBROADCASTI32X4 48(AX), Z19        \
	VBROADCASTI32X4 64(AX), Z20        \
	VBROADCASTI32X4 80(AX), Z21        \
	VBROADCASTI32X4 96(AX), Z22        \
	VBROADCASTI32X4 112(AX), Z23       \
	VBROADCASTI32X4 128(AX), Z24       \
	VBROADCASTI32X4 144(AX), Z25       \
	VBROADCASTI32X4 160(AX), Z26       \
	VBROADCASTI32X4 176(AX), Z27       \
	VBROADCASTI32X4 192(AX), Z28       \
	VBROADCASTI32X4 208(AX), Z29       \
	VBROADCASTI32X4 224(AX), Z30       \
	MOVQ $0x87, DX                     \
	VPBROADCASTQ DX, Z31               \
	VBROADCASTI32X4 (BX), Z0           \
	VPSLLVQ up<>(SB), Z0, Z8           \
	VPSRLVQ down<>(SB), Z0, Z1         \
	CARRY(Z8, Z1, Z2)                  \
	TIMES(4, Z8, Z9, Z0, Z1)           \
	TIMES(8, Z8, Z10, Z2, Z3)          \
	TIMES(12, Z8, Z11, Z4, Z5)         \
	TIMES(16, Z8, Z12, Z6, Z7)         \
	TIMES(20, Z8, Z13, Z0, Z1)         \
	TIMES(24, Z8, Z14, Z2, Z3)         \
	TIMES(28, Z8, Z15, Z4, Z5)         \
loop:                                      \
	LOAD(0, Z8, Z0)                    \
	LOAD(64, Z9, Z1)                   \
	LOAD(128, Z10, Z2)                 \
	LOAD(192, Z11, Z3)                 \
	LOAD(256, Z12, Z4)                 \
	LOAD(320, Z13, Z5)                 \
	LOAD(384, Z14, Z6)                 \
	LOAD(448, Z15, Z7)                 \
	ROUND(OP, Z17)                     \
	ROUND(OP, Z18)                     \
	ROUND(OP, Z19)                     \
	ROUND(OP, Z20)                     \
	ROUND(OP, Z21)                     \
	ROUND(OP, Z22)                     \
	ROUND(OP, Z23)                     \
	ROUND(OP, Z24)                     \
	ROUND(OP, Z25)                     \
	ROUND(OP, Z26)                     \
	ROUND(OP, Z27)                     \
	ROUND(OP, Z28)                     \
	ROUND(OP, Z29)                     \
	ROUND(LAST, Z30)                   \
	STORE(0, Z8, Z0)                   \
	STORE(64, Z9, Z1)                  \
	STORE(128, Z10, Z2)                \
	STORE(192, Z11, Z3)                \
	STORE(256, Z12, Z4)                \
	STORE(320, Z13, Z5)                \
	STORE(384, Z14, Z6)                \
	STORE(448, Z15, Z7)                \
	TIMES(32, Z8, Z8, Z0, Z1)          \
	TIMES(32, Z9, Z9, Z2, Z3)          \
	TIMES(32, Z10, Z10, Z4, Z5)        \
	TIMES(32, Z11, Z11, Z6, Z7)        \
	TIMES(32, Z12, Z12, Z0, Z1)        \
	TIMES(32, Z13, Z13, Z2, Z3)        \
	TIMES(32, Z14, Z14, Z4, Z5)        \
	TIMES(32, Z15, Z15, Z6, Z7)        \
	ADDQ $512, SI                      \
	ADDQ $512, DI                      \
	DECQ CX                            \
	JNZ  loop                          \
	VZEROUPPER                         \
	RET

// func encryptUnits(keys *roundKeys, dst, src *byte, tweak *[16]byte, units int)
TEXT ·encryptUnits(SB), NOSPLIT, $0-40
	UNITS(VAESENC, VAESENCLAST)

// func decryptUnits(keys *roundKeys, dst, src *byte, tweak *[16]byte, units int)
TEXT ·decryptUnits(SB), NOSPLIT, $0-40
	UNITS(VAESDEC, VAESDECLAST)

// func subWord(w uint32) uint32
TEXT ·subWord(SB), NOSPLIT, $0-12
	MOVL       w+0(FP), AX
	MOVQ       AX, X0
	PSHUFD     $0, X0, X0 // with four equal columns, shifting rows does nothing
	PXOR       X1, X1
	AESENCLAST X1, X0
	MOVQ       X0, AX
	MOVL       AX, ret+8(FP)
	RET

// func unmix(dst, src *[16]byte)
TEXT ·unmix(SB), NOSPLIT, $0-16
	MOVQ   dst+0(FP), DI
	MOVQ   src+8(FP), SI
	MOVOU  (SI), X0
	AESIMC X0, X0
	MOVOU  X0, (DI)
	RET
