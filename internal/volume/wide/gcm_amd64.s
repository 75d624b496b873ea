// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// 1 and x⁷+x²+x+1 as GHASH has bits: the lowest power highest (SP 800-38D, section 6.3).
DATA poly<>+0(SB)/8, $1
DATA poly<>+8(SB)/8, $0xC200000000000000
GLOBL poly<>(SB), RODATA|NOPTR, $16

// The bytes of a block backwards.
DATA backwards<>+0(SB)/8, $0x08090A0B0C0D0E0F
DATA backwards<>+8(SB)/8, $0x0001020304050607
GLOBL backwards<>(SB), RODATA|NOPTR, $16

// The last four bytes of a block backwards: the counter.
DATA counter<>+0(SB)/8, $0x0706050403020100
DATA counter<>+8(SB)/8, $0x0C0D0E0F0B0A0908
GLOBL counter<>(SB), RODATA|NOPTR, $16

// What is added to the counters of four blocks: at first, and then.
DATA first<>+0(SB)/8, $0
DATA first<>+8(SB)/8, $0
DATA first<>+16(SB)/8, $0
DATA first<>+24(SB)/8, $0x100000000
DATA first<>+32(SB)/8, $0
DATA first<>+40(SB)/8, $0x200000000
DATA first<>+48(SB)/8, $0
DATA first<>+56(SB)/8, $0x300000000
GLOBL first<>(SB), RODATA|NOPTR, $64

DATA four<>+0(SB)/8, $0
DATA four<>+8(SB)/8, $0x400000000
GLOBL four<>(SB), RODATA|NOPTR, $16

// Z0 … Z3   the key stream of 16 blocks
// Z4 … Z7   the 16 blocks
// Z8 … Z10  the low, middle and high part of a product
// Z12       the hash, in the first lane
// Z13 … Z15 four, the next counters, and how a counter is turned
// Z16 … Z30 the round keys, each four times
// Z31       how a block is turned

#define ROUND4(OP, K) \
	OP K, Z0, Z0 \
	OP K, Z1, Z1 \
	OP K, Z2, Z2 \
	OP K, Z3, Z3

#define STREAM(Z) \
	VPSHUFB Z15, Z14, Z  \
	VPADDD  Z13, Z14, Z14 \
	VPXORQ  Z16, Z, Z

// ADDPRODUCT adds four products of blocks and powers.
#define ADDPRODUCT(at, B) \
	VMOVDQU64  at(BX), Z11                \
	VPCLMULQDQ $0x00, Z11, B, Z0          \
	VPCLMULQDQ $0x11, Z11, B, Z1          \
	VPCLMULQDQ $0x01, Z11, B, Z2          \
	VPCLMULQDQ $0x10, Z11, B, Z3          \
	VPXORQ     Z0, Z8, Z8                 \
	VPXORQ     Z1, Z10, Z10               \
	VPTERNLOGQ $0x96, Z2, Z3, Z9

// FOLD adds the four lanes of a register.
#define FOLD(Z, Y, X) \
	VEXTRACTI64X4 $1, Z, Y0    \
	VPXORQ        Y0, Y, Y     \
	VEXTRACTI128  $1, Y, X0    \
	VPXOR         X0, X, X

// REDUCE reduces the product in X8 (low), X9 (middle) and X10 (high) into X12; X0 is the polynomial.
#define REDUCE \
	VPSLLDQ    $8, X9, X1         \
	VPSRLDQ    $8, X9, X2         \
	VPXOR      X1, X8, X8         \
	VPXOR      X2, X10, X10       \
	VPCLMULQDQ $0x10, X0, X8, X1  \
	VPSHUFD    $78, X8, X8        \
	VPXOR      X1, X8, X8         \
	VPCLMULQDQ $0x10, X0, X8, X1  \
	VPSHUFD    $78, X8, X8        \
	VPXOR      X1, X8, X8         \
	VPXOR      X8, X10, X12

// func openBlocks(k *roundKeys, powers *[16][16]byte, dst, src *byte, icb, hash *[16]byte, count int)
TEXT ·openBlocks(SB), NOSPLIT, $0-56
	MOVQ k+0(FP), AX
	MOVQ powers+8(FP), BX
	MOVQ dst+16(FP), DI
	MOVQ src+24(FP), SI
	MOVQ icb+32(FP), R8
	MOVQ hash+40(FP), R9
	MOVQ count+48(FP), CX
	VBROADCASTI32X4 0(AX), Z16
	VBROADCASTI32X4 16(AX), Z17
	VBROADCASTI32X4 32(AX), Z18
	VBROADCASTI32X4 48(AX), Z19
	VBROADCASTI32X4 64(AX), Z20
	VBROADCASTI32X4 80(AX), Z21
	VBROADCASTI32X4 96(AX), Z22
	VBROADCASTI32X4 112(AX), Z23
	VBROADCASTI32X4 128(AX), Z24
	VBROADCASTI32X4 144(AX), Z25
	VBROADCASTI32X4 160(AX), Z26
	VBROADCASTI32X4 176(AX), Z27
	VBROADCASTI32X4 192(AX), Z28
	VBROADCASTI32X4 208(AX), Z29
	VBROADCASTI32X4 224(AX), Z30
	VBROADCASTI32X4 backwards<>(SB), Z31
	VBROADCASTI32X4 counter<>(SB), Z15
	VBROADCASTI32X4 four<>(SB), Z13
	VBROADCASTI32X4 (R8), Z14
	VPSHUFB Z15, Z14, Z14
	VPADDD  first<>(SB), Z14, Z14
	VMOVDQU (R9), X12
	VPSHUFB X31, X12, X12

loop:
	STREAM(Z0)
	STREAM(Z1)
	STREAM(Z2)
	STREAM(Z3)
	VMOVDQU64 0(SI), Z4
	VMOVDQU64 64(SI), Z5
	VMOVDQU64 128(SI), Z6
	VMOVDQU64 192(SI), Z7
	ROUND4(VAESENC, Z17)
	ROUND4(VAESENC, Z18)
	ROUND4(VAESENC, Z19)
	ROUND4(VAESENC, Z20)
	ROUND4(VAESENC, Z21)
	ROUND4(VAESENC, Z22)
	ROUND4(VAESENC, Z23)
	ROUND4(VAESENC, Z24)
	ROUND4(VAESENC, Z25)
	ROUND4(VAESENC, Z26)
	ROUND4(VAESENC, Z27)
	ROUND4(VAESENC, Z28)
	ROUND4(VAESENC, Z29)
	ROUND4(VAESENCLAST, Z30)
	VPXORQ Z4, Z0, Z0
	VPXORQ Z5, Z1, Z1
	VPXORQ Z6, Z2, Z2
	VPXORQ Z7, Z3, Z3
	VMOVDQU64 Z0, 0(DI)
	VMOVDQU64 Z1, 64(DI)
	VMOVDQU64 Z2, 128(DI)
	VMOVDQU64 Z3, 192(DI)

	VPSHUFB Z31, Z4, Z4
	VPSHUFB Z31, Z5, Z5
	VPSHUFB Z31, Z6, Z6
	VPSHUFB Z31, Z7, Z7
	VPXORQ  Z12, Z4, Z4
	VPXORQ  Z8, Z8, Z8
	VPXORQ  Z9, Z9, Z9
	VPXORQ  Z10, Z10, Z10
	ADDPRODUCT(0, Z4)
	ADDPRODUCT(64, Z5)
	ADDPRODUCT(128, Z6)
	ADDPRODUCT(192, Z7)
	FOLD(Z8, Y8, X8)
	FOLD(Z9, Y9, X9)
	FOLD(Z10, Y10, X10)
	VMOVDQU poly<>(SB), X0
	REDUCE

	ADDQ $256, SI
	ADDQ $256, DI
	SUBQ $16, CX
	JNZ  loop

	VPSHUFB X31, X12, X12
	VMOVDQU X12, (R9)
	VZEROUPPER
	RET

// func hashBlock(power, hash, block *[16]byte)
TEXT ·hashBlock(SB), NOSPLIT, $0-24
	MOVQ power+0(FP), BX
	MOVQ hash+8(FP), R9
	MOVQ block+16(FP), SI
	VMOVDQU backwards<>(SB), X3
	VMOVDQU (R9), X4
	VPXOR   (SI), X4, X4
	VPSHUFB X3, X4, X4
	VMOVDQU (BX), X5
	VPCLMULQDQ $0x00, X5, X4, X8
	VPCLMULQDQ $0x11, X5, X4, X10
	VPCLMULQDQ $0x01, X5, X4, X9
	VPCLMULQDQ $0x10, X5, X4, X11
	VPXOR   X11, X9, X9
	VMOVDQU poly<>(SB), X0
	REDUCE
	VPSHUFB X3, X12, X12
	VMOVDQU X12, (R9)
	RET

// func encryptBlock(k *roundKeys, b *[16]byte)
TEXT ·encryptBlock(SB), NOSPLIT, $0-16
	MOVQ k+0(FP), AX
	MOVQ b+8(FP), DI
	VMOVDQU (DI), X0
	VPXOR   0(AX), X0, X0
	VAESENC 16(AX), X0, X0
	VAESENC 32(AX), X0, X0
	VAESENC 48(AX), X0, X0
	VAESENC 64(AX), X0, X0
	VAESENC 80(AX), X0, X0
	VAESENC 96(AX), X0, X0
	VAESENC 112(AX), X0, X0
	VAESENC 128(AX), X0, X0
	VAESENC 144(AX), X0, X0
	VAESENC 160(AX), X0, X0
	VAESENC 176(AX), X0, X0
	VAESENC 192(AX), X0, X0
	VAESENC 208(AX), X0, X0
	VAESENCLAST 224(AX), X0, X0
	VMOVDQU X0, (DI)
	RET
