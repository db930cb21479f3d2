// What every file with vector code includes before Highway.
//
// Highway compiles such a file once per target and chooses at run time. Fused multiply-add is part of the stream's
// definition, so only targets that have it are generated: AVX2, AVX-512 (Skylake) and NEON; SSE and the emulated
// targets would round twice. The same tokens come from each of them: tests/randnet/targets.h runs a test on all that
// the processor has.
#pragma once

// Highway asks for AES and PCLMUL in its SSE4 and AVX2 targets; x86-64-v3 does not have them and nothing here uses
// them.
#define HWY_DISABLE_PCLMUL_AES
// Bit 29 is HWY_NEON_WITHOUT_AES of Highway 1.0.5 and later; Highway 1.0.3 has no name for it.
#define HWY_DISABLED_TARGETS (~(HWY_AVX2 | HWY_AVX3 | HWY_NEON | (1LL << 29)))
