// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// The bytes of four words backwards.
DATA words<>+0(SB)/8, $0x0405060700010203
DATA words<>+8(SB)/8, $0x0C0D0E0F08090A0B
GLOBL words<>(SB), RODATA|NOPTR, $16

// X0        four words of the message and their constants
// X1, X2    the state of the first message: a b e f, and c d g h
// X3 … X6   its next words
// X7, X8    the state of the second message
// X9 … X12  its next words
// X13       scratch
// X14       how words are turned

#define LOAD(at, P, A, B, C, D) \
	MOVOU  at+0(P), A  \
	MOVOU  at+16(P), B \
	MOVOU  at+32(P), C \
	MOVOU  at+48(P), D \
	PSHUFB X14, A      \
	PSHUFB X14, B      \
	PSHUFB X14, C      \
	PSHUFB X14, D

// FOUR are four rounds with the words W.
#define FOUR(q, W, S0, S1) \
	MOVOU       (16*(q))(BX), X0 \
	PADDD       W, X0          \
	SHA256RNDS2 X0, S0, S1     \
	PSHUFD      $0x0E, X0, X0  \
	SHA256RNDS2 X0, S1, S0

// NEXT makes the words after A, B, C and D, in place of A.
#define NEXT(A, B, C, D) \
	SHA256MSG1 B, A       \
	MOVO       D, X13     \
	PALIGNR    $4, C, X13 \
	PADDD      X13, A     \
	SHA256MSG2 D, A

#define BOTH(q, V, W) \
	FOUR(q, V, X1, X2) \
	FOUR(q, W, X7, X8)

#define BOTHNEXT(A, B, C, D, E, F, G, H) \
	NEXT(A, B, C, D) \
	NEXT(E, F, G, H)

#define SIXTEEN(q) \
	BOTHNEXT(X3, X4, X5, X6, X9, X10, X11, X12) \
	BOTH(q, X3, X9)                             \
	BOTHNEXT(X4, X5, X6, X3, X10, X11, X12, X9) \
	BOTH(q+1, X4, X10)                          \
	BOTHNEXT(X5, X6, X3, X4, X11, X12, X9, X10) \
	BOTH(q+2, X5, X11)                          \
	BOTHNEXT(X6, X3, X4, X5, X12, X9, X10, X11) \
	BOTH(q+3, X6, X12)

// IN takes a state from where it is a b c d and e f g h, OUT puts it there.
#define IN(P, S0, S1) \
	MOVOU   0(P), S0       \
	MOVOU   16(P), S1      \
	PSHUFD  $0xB1, S0, S0  \
	PSHUFD  $0x1B, S1, S1  \
	MOVO    S0, X13        \
	PALIGNR $8, S1, S0     \
	PBLENDW $0xF0, X13, S1

#define OUT(P, S0, S1) \
	PSHUFD  $0x1B, S0, S0  \
	PSHUFD  $0xB1, S1, S1  \
	MOVO    S0, X13        \
	PBLENDW $0xF0, S1, S0  \
	PALIGNR $8, X13, S1    \
	MOVOU   S0, 0(P)       \
	MOVOU   S1, 16(P)

#define ADD(at, S) \
	MOVOU at(SP), X13 \
	PADDD X13, S

// func hashPair(k *[64]uint32, s, t *[8]uint32, p, q *byte, count int)
TEXT ·hashPair(SB), NOSPLIT, $64-48
	MOVQ k+0(FP), BX
	MOVQ s+8(FP), R8
	MOVQ t+16(FP), R9
	MOVQ p+24(FP), SI
	MOVQ q+32(FP), DI
	MOVQ count+40(FP), CX
	MOVOU words<>(SB), X14
	IN(R8, X1, X2)
	IN(R9, X7, X8)

loop:
	MOVOU X1, 0(SP)
	MOVOU X2, 16(SP)
	MOVOU X7, 32(SP)
	MOVOU X8, 48(SP)
	LOAD(0, SI, X3, X4, X5, X6)
	LOAD(0, DI, X9, X10, X11, X12)
	BOTH(0, X3, X9)
	BOTH(1, X4, X10)
	BOTH(2, X5, X11)
	BOTH(3, X6, X12)
	SIXTEEN(4)
	SIXTEEN(8)
	SIXTEEN(12)
	ADD(0, X1)
	ADD(16, X2)
	ADD(32, X7)
	ADD(48, X8)
	ADDQ $64, SI
	ADDQ $64, DI
	DECQ CX
	JNZ  loop

	OUT(R8, X1, X2)
	OUT(R9, X7, X8)
	RET

// func features() uint32
TEXT ·features(SB), NOSPLIT, $0-4
	XORL AX, AX
	CPUID
	XORL DX, DX
	CMPL AX, $7
	JLT  done
	MOVL $7, AX
	XORL CX, CX
	CPUID
	MOVL BX, DX

done:
	MOVL DX, ret+0(FP)
	RET
